"""Settings of how an iteration learns: loss and optimizer."""

from __future__ import annotations

from dataclasses import dataclass

from ..advantage import MIXES, SPREADS
from ..objective import KL_SPACES, STEP_WEIGHTS, SURROGATES
from ..settings import setting

SCHEDULES = ("constant", "linear")


@dataclass
class LossConfig:
    """The surrogate objective."""

    surrogate: str = setting(
        "clip", "How far an image may pull. clip: PPO's clipped ratio (the paper). ratio_norm: the ratio freed of its "
        "bias, so that clipping acts on all steps alike (GRPO-Guard). kl_mask: no clip, images that have moved too far "
        "are left out (Flow-DPPO). These cost the same time. nft: no random steps at all, the finished images are "
        "noised again (DiffusionNFT); it samples by an older policy and needs shared_noise off.",
        place=21, choices=SURROGATES, advanced=True,
    )  # fmt: skip
    clip_range: float = setting(
        1e-4, "For clip and ratio_norm: probability ratios leave the gradient beyond 1 +- this. It belongs to the mean "
        "log-probability over all latent values and isn't PPO's 0.2. The paper: 0.0001; ratio_norm: 2e-6 to 4e-6.",
        place=22, minimum=1e-8, maximum=1.0, step=1e-7, advanced=True,
    )  # fmt: skip
    kl_mask_threshold: float = setting(
        1e-6, "For kl_mask: how far a step may move from the policy that sampled it, as KL per latent value. "
        "Flow-DPPO's authors: 0.00001. On a bf16 model not less, since rounding alone is 0.000001.",
        place=23, minimum=1e-10, maximum=1.0, step=1e-7, advanced=True,
    )  # fmt: skip
    advantage_clip: float = setting(
        5.0, "Advantages are clipped to +- this many standard deviations.",
        place=20, minimum=0.1, maximum=100.0, step=0.1, advanced=True,
    )  # fmt: skip
    spread: str = setting(
        "group", "The standard deviation that advantages are measured in: that of their own group (the paper), or of "
        "all images of the iteration, so that a group of nearly equal images weighs little (iteration; Flow-GRPO).",
        label="advantage_spread", place=35, choices=SPREADS, advanced=True,
    )  # fmt: skip
    # It holds the model back from drifting where no reward of a group looks. Images without an advantage are left out.
    kl_weight: float = setting(
        0.0, "Pulls the model back to the base where it drifts without winning reward. 0 turns it off; 0.0001 to 0.1 "
        "is usual. Costs one more model call without gradient per trained step.",
        place=24, minimum=0.0, maximum=100.0, step=0.0001, advanced=True,
    )  # fmt: skip
    kl_space: str = setting(
        "velocity", "What kl_weight weighs. velocity: the squared difference of the velocities, all steps alike. mean: "
        "the exact KL of a step, which grows as its noise shrinks. flow_grpo: that times the step's length, as "
        "Flow-GRPO's authors do: at 10 even steps 5.6 to 28 times less. All cost the same.",
        place=25, choices=KL_SPACES, advanced=True,
    )  # fmt: skip
    mix: str = setting(
        "advantages", "With several rewards. advantages: each is compared inside its group first, so that all count "
        "alike whatever their scales. rewards: the raw scores are mixed.",
        label="reward_mix", place=19, choices=MIXES, advanced=True,
    )  # fmt: skip
    step_weights: str = setting(
        "uniform", "What the trained steps weigh. uniform: all alike. noise: by the noise that a step adds, so that "
        "early ones, which decide most, count most; 1 on average over all steps (TempFlow-GRPO).",
        place=39, choices=STEP_WEIGHTS, advanced=True,
    )  # fmt: skip
    nft_beta: float = setting(
        1.0, "For nft: how near the positive and the negative policy stay to the old one. Smaller learns in larger "
        "steps and less steadily. DiffusionNFT: 1, for texts and several rewards 0.1.",
        place=40, minimum=0.01, maximum=10.0, step=0.01, advanced=True,
    )  # fmt: skip
    # The authors' OCR recipe goes up to .999, by .0075 an iteration from the 75th on.
    old_decay: float = setting(
        0.5, "For nft: how much the policy that samples keeps of itself an iteration, at most. 0 samples by the newest "
        "one: fast, but it may collapse. DiffusionNFT: 0.5.",
        place=41, minimum=0.0, maximum=0.9999, step=0.001, advanced=True,
    )  # fmt: skip
    old_decay_growth: float = setting(
        0.001, "For nft: old_decay begins at 0 and grows by this an iteration. DiffusionNFT: 0.001.",
        place=42, minimum=0.0, maximum=1.0, step=0.0001, advanced=True,
    )  # fmt: skip


@dataclass
class OptimizerConfig:
    """AdamW and how often it steps."""

    learning_rate: float = setting(
        1e-4, "AdamW's learning rate. It goes with the LoRA: 3e-4 with an alpha of twice the rank (the presets), 1e-4 "
        "to 3e-4 with alpha = rank; 1e-5 suits all weights.",
        place=26, minimum=1e-8, maximum=1.0, step=1e-6,
    )  # fmt: skip
    # A rate that falls to 0 averages out the noise of the late updates.
    schedule: str = setting(
        "constant", "constant (the paper), or linear: falls to 0 at the last iteration, good for short runs.",
        label="learning_rate_schedule", place=27, choices=SCHEDULES, advanced=True,
    )  # fmt: skip
    weight_decay: float = setting(
        1e-4, "AdamW's weight decay.", place=28, minimum=0.0, maximum=1.0, step=1e-5, advanced=True
    )
    beta1: float = setting(
        0.9, "AdamW's decay of the gradient's average.", minimum=0.0, maximum=0.9999, step=0.001, advanced=True
    )
    beta2: float = setting(
        0.999, "AdamW's decay of the squared gradient's average.",
        minimum=0.0, maximum=0.999999, step=0.0001, advanced=True,
    )  # fmt: skip
    max_grad_norm: float = setting(
        1.0, "The gradient is scaled down to this norm.",
        place=29, minimum=1e-6, maximum=1e6, step=0.01, advanced=True,
    )  # fmt: skip
    updates: int = setting(
        4, "Gradient updates an iteration: its images are split at random into so many minibatches.",
        place=30, minimum=1, maximum=256, advanced=True,
    )  # fmt: skip
    # Several processes then have equal work (one waits for the slowest), and the first window step of a prompt's images
    # is one call.
    balanced: bool = setting(
        False, "Each minibatch takes as many images of every prompt, drawn at random, as the paper's GPUs do with "
        "their prompts; for several processes. Off, images of all prompts are mixed at random.",
        advanced=True,
    )  # fmt: skip
    # More than a minibatch joins several steps in a call, which is faster where the model or the images are small.
    batch_size: int = setting(
        0, "Images a model call in the update. 0 takes what should fit, several steps of an image at once where there "
        "is room, and half as many whenever memory runs out. The result stays the same.",
        label="update_batch_size", place=33, minimum=0, maximum=1024, changes_training=False, advanced=True,
    )  # fmt: skip
    ema_decay: float = setting(
        0.0, "Measured and saved is a moving average of the LoRA over iterations, which is steadier than its last "
        "state: 0.9 averages about 10 iterations, 0.95 about 20. 0 turns it off. Costs the LoRA's memory once more.",
        place=31, minimum=0.0, maximum=0.9999, step=0.001, advanced=True,
    )  # fmt: skip
    epochs: int = setting(
        1, "Passes over an iteration's images, each with minibatches of its own. Sampling and scoring are most of an "
        "iteration; another pass costs only its updates again. The ratios move further from 1 with each. The paper: 1.",
        place=38, minimum=1, maximum=64, advanced=True,
    )  # fmt: skip
