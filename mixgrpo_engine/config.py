"""Every setting of a run, one dataclass a group. A field's comment says what it does, its unit, what it costs."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field

from .advantage import MIXES
from .objective import KL_SPACES, SURROGATES
from .solvers import VARIANTS
from .transitions import TRANSITIONS
from .window import STRATEGIES

SCHEDULES = ("constant", "linear")
PRECISIONS = ("no", "bf16", "fp16")
ADAPTER_KINDS = ("lora", "full")
ADAPTER_DTYPES = ("float32", "bfloat16")


@dataclass
class RolloutConfig:
    """How the images of an iteration are sampled (arXiv 2507.21802, section 3)."""

    # Denoising steps of a rollout. Its cost grows with it; 25 in the paper, 10 for SD3.5.
    steps: int = 25
    # Time shift of the sigmas; 0 takes the model's own.
    shift: float = 0.0
    # The stochastic step inside the window.
    transition: str = "flow_sde"
    # Strength of the noise inside the window: more explores more, too much spoils the images. 0.7 in the paper.
    eta: float = 0.7
    # Images of one prompt that are compared with each other. Cost grows with it; 12 in the paper.
    group_size: int = 12
    # Different prompts an iteration. Cost grows with it; more make the gradient steadier.
    prompts_per_iteration: int = 1
    # All images of a group start from the same noise. It matters more than any other switch (ImageReward 1.629
    # with it, 1.448 without) and lets the steps before the window run once a prompt.
    shared_noise: bool = True
    # MixGRPO-Flash: the steps after the window are re-spaced to this share of their number; 1 keeps them all.
    flash_ratio: float = 1.0
    # Order of the DPM-Solver++ after the window: 1 is plain Euler. 2 suits flash_ratio below 1.
    tail_order: int = 1
    # Form of the second-order step: midpoint (better in the paper) or heun.
    tail_variant: str = "midpoint"
    # Classifier-free guidance scale in rollout and update; 1 turns it off and halves the cost.
    cfg: float = 1.0
    # Images a model call in the rollout; 0 takes as many as memory allows. With a smaller number prompts are rolled
    # out one after another, and scored while the next one is sampled.
    batch_size: int = 0


@dataclass
class WindowConfig:
    """Which denoising steps are stochastic and trained."""

    # constant, linear_decay, exp_decay, random or frozen.
    strategy: str = "constant"
    # Stochastic steps an iteration. Update cost grows with it; 4 in the paper. 0 takes every step but the last
    # (DanceGRPO, Flow-GRPO).
    size: int = 4
    # Share of the window's steps that are trained, drawn at random every iteration; 0.6 in DanceGRPO.
    trained_share: float = 1.0
    # By how many steps the window moves.
    stride: int = 1
    # Iterations that the window stays at a place; 25 in the paper for 300 iterations.
    interval: int = 25
    # Start again at the first step once the last place has had its time; otherwise stay there.
    wrap: bool = False
    # The window starts within the first max_start + 1 places; -1 allows all. Early steps decide what is in the
    # image, late ones its texture.
    max_start: int = -1


@dataclass
class LossConfig:
    """The surrogate objective."""

    # clip: PPO's clipped ratio (the paper). ratio_norm: the ratio freed of its bias, and steps weighted by 1 / step
    # size (GRPO-Guard). kl_mask: no clip; images that have moved too far leave the gradient (Flow-DPPO).
    surrogate: str = "clip"
    # Ratios leave the gradient beyond 1 +- clip_range (clip, ratio_norm). It belongs to the MEAN log-probability over
    # all latent dimensions, so it is far smaller than PPO's 0.2.
    clip_range: float = 1e-4
    # kl_mask: how far a step may move from the rollout's policy, as KL per latent dimension.
    kl_mask_threshold: float = 1e-6
    # Advantages are clipped to +- this many group standard deviations.
    advantage_clip: float = 5.0
    # Weight of the KL to the base model. It holds the model back from drifting where no reward of a group looks; costs
    # one more model call without gradient per update. Images without an advantage are left out. 0: off.
    kl_weight: float = 0.0
    # velocity: mean squared difference of the velocities, all steps alike. mean: the exact KL of a step, which grows
    # as its noise shrinks.
    kl_space: str = "velocity"
    # Mix several rewards as "advantages" (each normalised in its group first) or as raw "rewards".
    mix: str = "advantages"


@dataclass
class OptimizerConfig:
    """AdamW and how often it steps."""

    # Learning rate; 1e-4 to 3e-4 for a LoRA, 1e-5 for all weights.
    learning_rate: float = 1e-4
    # "constant" (the paper), or "linear": falls to 0 at the last iteration, which averages out the noise of the
    # late updates; good for short runs.
    schedule: str = "constant"
    weight_decay: float = 1e-4
    beta1: float = 0.9
    beta2: float = 0.999
    # The gradient is scaled down to this norm.
    max_grad_norm: float = 1.0
    # Gradient updates an iteration: its images are split into so many minibatches at random. 4 in the paper.
    updates: int = 4
    # Whether each minibatch takes as many images of every prompt, drawn at random, as the paper's GPUs do with their
    # prompts. Several processes then have equal work (one waits for the slowest), and the first window step of a
    # prompt's images is one call. Off, images of all prompts are mixed at random.
    balanced: bool = False
    # Images a model call in the update, each at one window step; 0 takes a minibatch, or fewer when memory runs out.
    # More than a minibatch joins several steps in a call, which is faster where the model is small. The result stays
    # the same.
    batch_size: int = 0
    # Decay an iteration of a moving average of the adapter, which is then what is evaluated and saved as LoRA; 0.95
    # averages over about 20 iterations. 0: off.
    ema_decay: float = 0.0


@dataclass
class AdapterConfig:
    """What is trained: a LoRA, or all weights."""

    # Width of the two low-rank matrices; file size and capacity grow with it.
    rank: int = 32
    # Scale: the adapter's output is multiplied by alpha / rank; 0 takes alpha = rank.
    alpha: float = 0.0
    # Which linear layers get one: fragments of their names, separated by commas; empty means all linear layers of
    # the transformer blocks.
    targets: str = ""
    # Layers whose name holds one of these fragments get none.
    exclude: str = ""
    # "lora", or "full": all weights of the transformer, in float32; only for diffusers folders. It takes 16 bytes a
    # weight (a LoRA of a bf16 model 2), keeps no base model (kl_weight must be 0), and wants a learning rate near 1e-5.
    kind: str = "lora"
    # Of the adapter's own weights, whatever the base's. bfloat16 takes half the memory, but rounds small updates away.
    dtype: str = "float32"


@dataclass
class RunConfig:
    """What a run does beside the algorithm."""

    iterations: int = 300
    seed: int = 0
    # Pixels of the training images.
    width: int = 512
    height: int = 512
    # Held-out prompts are scored every so many iterations (and before the first and after the last); 0 never.
    evaluate_every: int = 25
    # Images a held-out prompt in these evaluations.
    evaluate_images: int = 4
    # A checkpoint is saved every so many iterations, and at a cancel; a killed run loses at most so much.
    checkpoint_every: int = 10
    # accelerate's mixed precision: "no" leaves the model's own dtypes alone.
    mixed_precision: str = "no"
    # Recompute activations in the backward pass: much less memory, about a third more time an update.
    gradient_checkpointing: bool = False
    # Processes that share the work, each with a GPU and prompts of its own; started by accelerate. The result is that
    # of one process but for rounding.
    processes: int = 1
    # What guidance (rollout.cfg) leads away from; unused where cfg is 1.
    negative_prompt: str = ""
    # Input of guidance-distilled models such as FLUX.1-dev; 0 leaves it at the model's default.
    guidance: float = 0.0
    # Of a video, for models that make them; time and memory grow with it. 1 trains on single images.
    frames: int = 1


@dataclass
class TrainConfig:
    """All settings of a run."""

    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    window: WindowConfig = field(default_factory=WindowConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def as_dict(self) -> dict:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> TrainConfig:
        """The reverse of as_dict. A missing field keeps its default, an unknown one is an error."""
        groups = {}
        for group in dataclasses.fields(cls):
            kind = group.default_factory
            given = dict(values.get(group.name, {}))
            unknown = set(given) - {f.name for f in dataclasses.fields(kind)}
            if unknown:
                raise ValueError(f"Unknown setting '{group.name}.{sorted(unknown)[0]}'.")
            groups[group.name] = kind(**given)
        unknown = set(values) - set(groups)
        if unknown:
            raise ValueError(f"Unknown group of settings '{sorted(unknown)[0]}': use {', '.join(groups)}.")
        return cls(**groups)

    def validate(self) -> None:
        """Raises ValueError with one sentence for the first setting that can't work."""
        for wrong, sentence in _checks(self):
            if wrong:
                raise ValueError(sentence)


def _checks(c: TrainConfig):
    r, w, o, a, run = c.rollout, c.window, c.optimizer, c.adapter, c.run
    yield r.steps < 2, f"steps is {r.steps}: at least 2 are needed, the last one is always deterministic."
    yield r.transition not in TRANSITIONS, f"transition is '{r.transition}': choose {', '.join(TRANSITIONS)}."
    yield not r.eta > 0, f"eta is {r.eta}: it must be above 0, or all images of a group are the same."
    yield r.transition == "cps" and r.eta >= 2, f"eta is {r.eta}: with cps it must be below 2."
    yield r.group_size < 2, f"group_size is {r.group_size}: at least 2 images are needed to compare."
    yield not (math.isfinite(r.cfg) and r.cfg >= 0), f"cfg is {r.cfg}: it must be 0 or more."
    yield not (math.isfinite(r.shift) and r.shift >= 0), f"shift is {r.shift}: it must be 0 (the model's own) or more."
    yield r.batch_size < 0 or o.batch_size < 0, "batch sizes must be 0 (all at once) or more."
    yield r.prompts_per_iteration < 1, "prompts_per_iteration must be at least 1."
    yield not 0 < r.flash_ratio <= 1, f"flash_ratio is {r.flash_ratio}: it must be above 0 and at most 1."
    yield r.tail_order not in (1, 2, 3), f"tail_order is {r.tail_order}: choose 1, 2 or 3."
    yield r.tail_variant not in VARIANTS, f"tail_variant is '{r.tail_variant}': choose {' or '.join(VARIANTS)}."
    yield w.strategy not in STRATEGIES, f"window strategy is '{w.strategy}': choose {', '.join(STRATEGIES)}."
    yield not 0 <= w.size < r.steps, (
        f"window size is {w.size} with {r.steps} steps: it must be 1 to {r.steps - 1} (the last step is not "
        "trained), or 0 for all of them."
    )
    yield not 0 < w.trained_share <= 1, f"trained_share is {w.trained_share}: it must be above 0 and at most 1."
    yield w.interval < 1, "window interval must be at least 1 iteration."
    yield w.stride < 1, "window stride must be at least 1 step."
    yield c.loss.surrogate not in SURROGATES, f"surrogate is '{c.loss.surrogate}': choose {', '.join(SURROGATES)}."
    yield not c.loss.clip_range > 0, "clip_range must be above 0."
    yield not c.loss.kl_mask_threshold > 0, "kl_mask_threshold must be above 0."
    yield not c.loss.kl_weight >= 0, "kl_weight must be 0 or more."
    yield c.loss.kl_space not in KL_SPACES, f"kl_space is '{c.loss.kl_space}': choose {' or '.join(KL_SPACES)}."
    yield not c.loss.advantage_clip > 0, "advantage_clip must be above 0."
    yield c.loss.mix not in MIXES, f"mix is '{c.loss.mix}': choose {' or '.join(MIXES)}."
    yield not o.max_grad_norm > 0, "max_grad_norm must be above 0."
    yield not o.learning_rate > 0, "learning_rate must be above 0."
    yield o.schedule not in SCHEDULES, f"learning rate schedule is '{o.schedule}': choose {' or '.join(SCHEDULES)}."
    yield not 0 <= o.ema_decay < 1, f"ema_decay is {o.ema_decay}: it must be 0 (off) or more, and below 1."
    images = r.group_size * r.prompts_per_iteration
    yield not 1 <= o.updates <= images, (
        f"updates is {o.updates} with {images} images an iteration: it must be 1 to {images}."
    )
    yield o.balanced and o.updates > r.group_size, (
        f"updates is {o.updates} with {r.group_size} images a prompt: with balanced minibatches it must be "
        f"{r.group_size} at most."
    )
    yield a.rank < 1, "LoRA rank must be at least 1."
    yield a.kind not in ADAPTER_KINDS, f"adapter kind is '{a.kind}': choose {' or '.join(ADAPTER_KINDS)}."
    yield a.kind == "full" and c.loss.kl_weight > 0, (
        f"kl_weight is {c.loss.kl_weight}: it must be 0 where all weights are trained, since no base model is kept."
    )
    yield a.dtype not in ADAPTER_DTYPES, f"LoRA dtype is '{a.dtype}': choose {' or '.join(ADAPTER_DTYPES)}."
    yield run.iterations < 1, "iterations must be at least 1."
    yield not (math.isfinite(run.guidance) and run.guidance >= 0), f"guidance is {run.guidance}: it must be 0 or more."
    yield run.frames < 1, f"frames is {run.frames}: it must be 1 (an image) or more."
    yield run.evaluate_every < 0, "evaluate_every must be 0 (never) or more."
    yield run.evaluate_images < 1, "evaluate_images must be at least 1."
    yield run.checkpoint_every < 1, "checkpoint_every must be at least 1."
    yield run.processes < 1, "processes must be at least 1."
    yield r.prompts_per_iteration < run.processes, (
        f"prompts_per_iteration is {r.prompts_per_iteration} with {run.processes} processes: each needs a prompt of "
        f"its own, so set it to {run.processes} or a multiple of it."
    )
    yield run.mixed_precision not in PRECISIONS, f"mixed_precision: choose {', '.join(PRECISIONS)}."
