"""Settings of how an iteration samples: rollout and window."""

from __future__ import annotations

from dataclasses import dataclass

from ..schedule import SPACINGS
from ..settings import setting
from ..solvers import VARIANTS
from ..transitions import TRANSITIONS
from ..window import STRATEGIES


@dataclass
class RolloutConfig:
    """How the images of an iteration are sampled (arXiv 2507.21802, section 3)."""

    steps: int = setting(
        25, "Denoising steps of a training image. Time grows with it. The paper: 25; SD3.5: 10.",
        place=1, minimum=2, maximum=1000,
    )  # fmt: skip
    shift: float = setting(
        0.0, "Time shift of the noise levels: higher spends more steps on high noise. 0 takes the model's own "
        "(ModelSampling nodes count).",
        place=2, minimum=0.0, maximum=20.0, step=0.01, advanced=True,
    )  # fmt: skip
    spacing: str = setting(
        "uniform", "How the noise levels lie: uniform (evenly before the shift; the paper), or diffusers (as its SD3 "
        "pipeline and ComfyUI's scheduler normal: the last step but one goes nearly to 0; Flow-GRPO).",
        place=34, choices=SPACINGS, advanced=True,
    )  # fmt: skip
    transition: str = setting(
        "flow_sde", "The random step inside the window: flow_sde (the paper, Flow-GRPO), dance_sde (DanceGRPO), or cps "
        "(keeps the noise level exactly, not the images' distribution; the paper's later choice).",
        place=3, choices=tuple(TRANSITIONS), advanced=True,
    )  # fmt: skip
    # docs/algorithms.md has what each transition does to the images' variance, in figures.
    eta: float = setting(
        0.7, "Strength of the noise inside the window. More explores more; too much spoils images. The first step of "
        "flow_sde, from pure noise, adds noise of exactly this size, however many steps there are.",
        place=4, minimum=0.01, maximum=4.0, step=0.01, advanced=True,
    )  # fmt: skip
    group_size: int = setting(
        12, "Images of one prompt that are compared with each other. Time grows with it.",
        place=6, minimum=2, maximum=256,
    )  # fmt: skip
    prompts_per_iteration: int = setting(
        1, "Different prompts an iteration. Time grows with it; more make learning steadier.",
        place=7, minimum=1, maximum=256,
    )  # fmt: skip
    # ImageReward 1.629 with it, 1.448 without: the paper's largest single effect.
    shared_noise: bool = setting(
        True, "All images of a group start from the same noise: better rewards in the paper, and the steps before the "
        "window run once a prompt instead of once an image.",
        place=8, advanced=True,
    )  # fmt: skip
    flash_ratio: float = setting(
        1.0, "MixGRPO-Flash: share of the steps after the window that are kept, rounded down, at least one. 1 keeps "
        "all; the paper's Flash takes 0.4, Flash* 0.2. Rollouts get cheaper, training images a little worse.",
        place=9, minimum=0.01, maximum=1.0, step=0.01, advanced=True,
    )  # fmt: skip
    tail_order: int = setting(
        1, "Order of the DPM-Solver++ after the window: 1 is Euler, 2 goes with flash_ratio < 1. All cost the same. "
        "With the surrogate nft it takes all steps.",
        place=10, minimum=1, maximum=3, advanced=True,
    )  # fmt: skip
    tail_variant: str = setting(
        "midpoint", "Form of the second-order solver; other orders have only one. The paper's better one is midpoint.",
        place=11, choices=VARIANTS, advanced=True,
    )  # fmt: skip
    cfg: float = setting(
        1.0, "Classifier-free guidance in training. 1: off, at half the cost. Sample later with the same value.",
        place=5, minimum=0.0, maximum=30.0, step=0.1,
    )  # fmt: skip
    # With a small one prompts are rolled out one after another, and scored while the next one is sampled.
    batch_size: int = setting(
        0, "Images a model call while sampling. 0 takes what should fit, and half as many whenever memory runs out.",
        label="rollout_batch_size", place=32, minimum=0, maximum=1024, changes_training=False, advanced=True,
    )  # fmt: skip


@dataclass
class WindowConfig:
    """Which denoising steps are stochastic and trained."""

    strategy: str = setting(
        "constant", "How the window of random steps moves: constant pace, a pace that grows towards the end "
        "(linear_decay, exp_decay), a random place every iteration, or frozen at the first steps.",
        label="window_strategy", place=12, choices=STRATEGIES, advanced=True,
    )  # fmt: skip
    size: int = setting(
        4, "Random steps an iteration, which are the trained ones. Update time grows with it. The paper: 4. 0 takes "
        "every step but the last (DanceGRPO, Flow-GRPO).",
        label="window_size", place=13, minimum=0, maximum=999, advanced=True,
    )  # fmt: skip
    trained_share: float = setting(
        1.0, "Share of the window's steps that are trained, drawn at random every iteration. Update time grows with "
        "it. 1 trains all; DanceGRPO: 0.6.",
        place=14, minimum=0.01, maximum=1.0, step=0.01, advanced=True,
    )  # fmt: skip
    stride: int = setting(
        1, "By how many steps the window moves.",
        label="window_stride", place=15, minimum=1, maximum=999, advanced=True,
    )  # fmt: skip
    interval: int = setting(
        25, "Iterations that the window stays at a place. The paper: 25 of 300.",
        label="window_interval", place=16, minimum=1, maximum=100_000, advanced=True,
    )  # fmt: skip
    wrap: bool = setting(
        False, "After its last place the window starts again at the first; otherwise it stays there.",
        label="window_wrap", place=18, advanced=True,
    )  # fmt: skip
    max_start: int = setting(
        -1, "Last step index at which the window may start; -1 allows all. Early steps decide what is in the image, "
        "late ones its texture; short runs do well with early ones only.",
        label="window_max_start", place=17, minimum=-1, maximum=999, advanced=True,
    )  # fmt: skip
