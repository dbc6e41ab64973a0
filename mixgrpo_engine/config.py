"""Every setting of a run, one dataclass a group. What is known of a setting stands here and nowhere else."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from .advantage import MIXES, SPREADS
from .conflicting_settings import conflicts
from .objective import KL_SPACES, SURROGATES
from .schedule import SPACINGS
from .settings import Setting, setting, settings_of
from .solvers import VARIANTS
from .transitions import TRANSITIONS
from .window import STRATEGIES, SlidingWindow

SCHEDULES = ("constant", "linear")
PRECISIONS = ("no", "bf16", "fp16")
ADAPTER_KINDS = ("lora", "full")
ADAPTER_DTYPES = ("float32", "bfloat16")


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
        1, "Order of the DPM-Solver++ after the window: 1 is Euler, 2 goes with flash_ratio < 1. All cost the same.",
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


@dataclass
class LossConfig:
    """The surrogate objective."""

    surrogate: str = setting(
        "clip", "How far an image may pull. clip: PPO's clipped ratio (the paper). ratio_norm: the ratio freed of its "
        "bias, so that clipping acts on all steps alike (GRPO-Guard). kl_mask: no clip, images that have moved too far "
        "are left out (Flow-DPPO). All cost the same time.",
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


@dataclass
class AdapterConfig:
    """What is trained: a LoRA, or all weights."""

    rank: int = setting(
        32, "Width of the low-rank matrices. File size, memory and capacity grow with it.", minimum=1, maximum=1024
    )
    alpha: float = setting(
        0.0, "The adapter's output is scaled by alpha / rank; so are, in effect, its learning steps. 0 takes the rank.",
        label="lora_alpha", place=36, minimum=0.0, maximum=4096.0, step=0.1, advanced=True,
    )  # fmt: skip
    targets: str = setting(
        "", "Fragments of layer names, separated by commas, e.g. attn, mlp. Empty takes all linear layers of the "
        "transformer blocks.",
        label="lora_targets", place=37, advanced=True,
    )  # fmt: skip
    exclude: str = setting(
        "", "Layers whose name holds one of these fragments (separated by commas) are left out.", advanced=True
    )
    kind: str = setting(
        "lora", "lora, or full: all weights of the transformer, in float32, for diffusers folders only. full takes 16 "
        "bytes a weight (a LoRA of a bf16 model 2), keeps no base model (kl_weight must be 0), and wants a learning "
        "rate near 1e-5.",
        choices=ADAPTER_KINDS,
    )  # fmt: skip
    dtype: str = setting(
        "float32", "Precision of the adapter while it is trained; the model keeps its own. bfloat16 takes half the "
        "memory, but loses small updates in its rounding: for high learning rates only.",
        choices=ADAPTER_DTYPES, advanced=True,
    )  # fmt: skip
    start_from: str = setting(
        "", "A LoRA file to go on from, in place of a new LoRA: the training begins at exactly what it does. Rank and "
        "layers are the file's, and so is alpha where it is 0.",
        advanced=True,
    )  # fmt: skip


@dataclass
class RunConfig:
    """What a run does beside the algorithm."""

    iterations: int = setting(
        300, "How many times images are made, scored and learned from. Time grows with it.",
        minimum=1, maximum=1_000_000,
    )  # fmt: skip
    seed: int = setting(
        0, "The same seed gives the same run. Another seed makes another run.", minimum=0, maximum=2**53 - 1
    )
    width: int = setting(512, "Width of the training images in pixels.", minimum=16, maximum=8192, step=16)
    height: int = setting(512, "Height of the training images in pixels.", minimum=16, maximum=8192, step=16)
    evaluate_every: int = setting(
        25, "Held-out prompts are scored every so many iterations, always with the same noise, and before the first "
        "and after the last. 0 never does it.",
        minimum=0, maximum=1_000_000, changes_training=False, advanced=True,
    )  # fmt: skip
    evaluate_images: int = setting(
        4, "Images a held-out prompt in these evaluations. Time grows with it.",
        minimum=1, maximum=1024, changes_training=False, advanced=True,
    )  # fmt: skip
    checkpoint_every: int = setting(
        10, "A checkpoint is saved every so many iterations, and at a cancel. A killed run loses at most so many.",
        minimum=1, maximum=1_000_000, changes_training=False, advanced=True,
    )  # fmt: skip
    mixed_precision: str = setting(
        "no", "bf16 or fp16 computes faster and less exactly. no leaves the model's own precision alone.",
        choices=PRECISIONS, advanced=True,
    )  # fmt: skip
    gradient_checkpointing: bool = setting(
        False, "Computes activations twice, keeping none: much less memory, about a third more time an update.",
        changes_training=False, advanced=True,
    )  # fmt: skip
    # Started by accelerate; the result is that of one process but for rounding.
    processes: int = setting(
        1, "Processes that share the work, one a GPU of this machine; each holds a copy of the models. The algorithm's "
        "prompts_per_iteration must be at least as many.",
        minimum=1, maximum=1024, changes_training=False, advanced=True,
    )  # fmt: skip
    negative_prompt: str = setting(
        "", "What the images are led away from where the algorithm's cfg isn't 1. Sample later with the same one. "
        "Another negative prompt makes another run.",
        advanced=True,
    )  # fmt: skip
    guidance: float = setting(
        0.0, "What the FluxGuidance node sets, for guidance-distilled models such as FLUX.1-dev: sample later with the "
        "same value. 0 leaves it at the model's default (FLUX: 3.5). Other models have cfg.",
        minimum=0.0, maximum=100.0, step=0.1, advanced=True,
    )  # fmt: skip
    frames: int = setting(
        1, "Frames of a training video, for video models such as Wan (1, 5, 9, 13 ...); the reward is the mean over "
        "its frames. 1 trains on single images.",
        minimum=1, maximum=1024, advanced=True,
    )  # fmt: skip
    sample_every: int = setting(
        25, "Where evaluate_every is 0: images of a few held-out prompts are made and scored every so many "
        "iterations, always with the same noise, for people to look at. 0 never does it.",
        minimum=0, maximum=1_000_000, changes_training=False, advanced=True,
    )  # fmt: skip
    images_mb: int = setting(
        256, "Disk space in MB for the single images of a run's held-out prompts. Where they need more, iterations in "
        "between lose theirs, evenly; the first and the newest stay. Grids have another 100 MB. 0 keeps grids only.",
        minimum=0, maximum=1_000_000, changes_training=False, advanced=True,
    )  # fmt: skip
    # MixGRPO with 8 held-out prompts: 10 steps are 4% of a run, the training's 25 would be 9%.
    evaluate_steps: int = setting(
        10, "Denoising steps of held-out images, by a second-order solver, and no more than the training's steps. Time "
        "grows with it: at the defaults 10 steps for 8 held-out prompts are about 4% of a run. 0 takes the training's "
        "own steps by Euler. A run keeps to what it began with.",
        minimum=0, maximum=1000, changes_training=False, advanced=True,
    )  # fmt: skip
    try_anyway: bool = setting(
        False, "Trains even where the memory estimate says that the GPU is too small, which it then only tells. If "
        "it is right, the run ends when memory runs out.",
        changes_training=False, advanced=True,
    )  # fmt: skip
    compile_blocks: bool = setting(
        False, "Compiles the model's transformer blocks before the first iteration (torch.compile), which takes "
        "minutes at each start: for long runs. On a CPU an update then takes a sixth less time (not run on a GPU). "
        "Where it can't be done, the training goes on without.",
        changes_training=False, advanced=True,
    )  # fmt: skip
    deterministic: bool = setting(
        False, "Computes with operations only that give the same bits each time, so that a run that was stopped and "
        "goes on ends exactly like one that wasn't, on a GPU too. Slower there (not measured); free on a CPU. An "
        "operation without such a form ends the run and is named.",
        changes_training=False, advanced=True,
    )  # fmt: skip
    swapped_blocks: int = setting(
        -1, "Transformer blocks whose weights stay in host memory and come to the GPU while they are at work, with "
        "gradient_checkpointing. -1 takes as few as a model needs that is too large for the GPU, usually none; 0 never "
        "does it. The result stays the same, and takes longer where weights come more slowly than they are used.",
        minimum=-1, maximum=1000, changes_training=False, advanced=True,
    )  # fmt: skip


@dataclass
class TrainConfig:
    """All settings of a run."""

    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    window: WindowConfig = field(default_factory=WindowConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    run: RunConfig = field(default_factory=RunConfig)

    @property
    def evaluation_steps(self) -> int:
        """Second-order steps of a held-out image; 0: the training's own steps by Euler."""
        return min(self.run.evaluate_steps, self.rollout.steps)

    @property
    def window_size(self) -> int:
        """Steps of the window; the setting 0 stands for every step but the last."""
        return self.window.size or self.rollout.steps - 1

    def trained_steps(self, window: int) -> int:
        """How many steps of a window of so many are trained in an iteration."""
        return max(1, int(window * self.window.trained_share))

    def sliding_window(self) -> SlidingWindow:
        """The window that the settings ask for."""
        window, steps = self.window, self.rollout.steps
        if window.max_start >= 0:
            steps = min(steps, window.max_start + self.window_size + 1)
        return SlidingWindow(
            steps, self.window_size, window.stride, window.interval, window.strategy, self.run.seed, window.wrap
        )

    def as_dict(self) -> dict[str, dict]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> TrainConfig:
        """The reverse of as_dict. A missing field keeps its default, an unknown one is an error."""
        groups = {}
        for group in dataclasses.fields(cls):
            given = dict(values.get(group.name, {}))
            unknown = set(given) - {each.field for each in SETTINGS if each.group == group.name}
            if unknown:
                raise ValueError(f"Unknown setting '{group.name}.{sorted(unknown)[0]}'.")
            assert group.default_factory is not dataclasses.MISSING
            groups[group.name] = group.default_factory(**given)
        unknown = set(values) - set(groups)
        if unknown:
            raise ValueError(f"Unknown group of settings '{sorted(unknown)[0]}': use {', '.join(groups)}.")
        return cls(**groups)

    def validate(self) -> None:
        """Raises ValueError with one sentence for the first setting that can't work."""
        for each in SETTINGS:
            each.check(each.of(self))
        for wrong, sentence in conflicts(self):
            if wrong:
                raise ValueError(sentence)


SETTINGS: tuple[Setting, ...] = settings_of(TrainConfig)
