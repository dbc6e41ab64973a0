"""The fields of MixGRPO_Algorithm: which setting each stands for, and what it says to people."""

from __future__ import annotations

from comfy_api.latest import io

from ..mixgrpo_engine import advantage, config, objective, presets, solvers
from ..mixgrpo_engine.config import TrainConfig

CUSTOM = "custom"
"""The preset of those who choose every field themselves: a field that isn't given has config.py's default."""

DEFAULT_PRESET = "MixGRPO"
PRESET_NAMES = (CUSTOM, *presets.PRESETS)

KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


class Field:
    """A widget of the node, and the setting of a run that it stands for."""

    def __init__(self, name: str, setting: str, kind: type, tooltip: str, **options):
        """setting: "group.field" of TrainConfig; kind: io.Int, io.Float, ...; options: of the widget."""
        self.name, self.kind, self.tooltip, self.options = name, kind, tooltip, options
        self.group, self.setting = setting.split(".")

    def of(self, settings: TrainConfig):
        return getattr(getattr(settings, self.group), self.setting)

    def put(self, settings: TrainConfig, value) -> None:
        """Raises ValueError for a value of another kind, which a link can bring."""
        wanted = type(self.of(settings))
        if type(value) is not wanted and (type(value), wanted) != (int, float):
            raise ValueError(f"{self.name} is a {type(value).__name__}: it must be {KINDS[wanted]}.")
        setattr(getattr(settings, self.group), self.setting, wanted(value))

    def widget(self) -> io.Input:
        default = self.of(presets.preset(DEFAULT_PRESET))
        return self.kind.Input(self.name, default=default, optional=True, tooltip=self.tooltip, **self.options)


def settings(preset: str, given: dict) -> TrainConfig:
    """A preset's settings with the given fields changed. Raises ValueError with one sentence for what can't work."""
    chosen = TrainConfig() if preset == CUSTOM else presets.preset(preset)
    for field in FIELDS:
        if field.name in given:
            field.put(chosen, given[field.name])
    chosen.validate()
    return chosen


def preset_values() -> dict[str, dict]:
    """Preset -> field -> value; without "custom", which has no values of its own."""
    every = {name: presets.preset(name) for name in presets.PRESETS}
    return {name: {field.name: field.of(values) for field in FIELDS} for name, values in every.items()}


FIELDS = (
    # How images are sampled.
    Field(
        "steps", "rollout.steps", io.Int,
        "Denoising steps of a training image. Time grows with it. The paper: 25; SD3.5: 10.",
        min=2, max=1000,
    ),
    Field(
        "shift", "rollout.shift", io.Float,
        "Time shift of the noise levels: higher spends more steps on high noise. 0 takes the model's own "
        "(ModelSampling nodes count).",
        min=0.0, max=20.0, step=0.01,
    ),
    Field(
        "transition", "rollout.transition", io.Combo,
        "The random step inside the window: flow_sde (the paper, Flow-GRPO), dance_sde (DanceGRPO), or cps (keeps the "
        "noise level exactly; the paper's later choice).",
        options=list(config.TRANSITIONS),
    ),
    Field(
        "eta", "rollout.eta", io.Float,
        "Strength of the noise inside the window. More explores more; too much spoils images.",
        min=0.01, max=4.0, step=0.01,
    ),
    Field(
        "cfg", "rollout.cfg", io.Float,
        "Classifier-free guidance in training. 1 turns it off and halves the cost. Sample later with the same value.",
        min=0.0, max=30.0, step=0.1,
    ),
    Field(
        "group_size", "rollout.group_size", io.Int,
        "Images of one prompt that are compared with each other. Time grows with it.",
        min=2, max=256,
    ),
    Field(
        "prompts_per_iteration", "rollout.prompts_per_iteration", io.Int,
        "Different prompts an iteration. Time grows with it; more make learning steadier.",
        min=1, max=256,
    ),
    Field(
        "shared_noise", "rollout.shared_noise", io.Boolean,
        "All images of a group start from the same noise: better rewards in the paper, and the steps before the window "
        "run once a prompt instead of once an image.",
    ),
    Field(
        "flash_ratio", "rollout.flash_ratio", io.Float,
        "MixGRPO-Flash: share of the steps after the window that are kept. 1 keeps all; the paper's Flash takes 0.4, "
        "Flash* 0.2. Rollouts get cheaper, training images a little worse.",
        min=0.01, max=1.0, step=0.01,
    ),
    Field(
        "tail_order", "rollout.tail_order", io.Int,
        "Order of the DPM-Solver++ after the window: 1 is Euler, 2 goes with flash_ratio < 1. A step costs the same.",
        min=1, max=3,
    ),
    Field(
        "tail_variant", "rollout.tail_variant", io.Combo,
        "Form of the second-order solver; the other orders have only one. midpoint is the better one in the paper.",
        options=list(solvers.VARIANTS),
    ),
    # Which steps are random and trained.
    Field(
        "window_strategy", "window.strategy", io.Combo,
        "How the window of random steps moves: constant pace, a pace that grows towards the end (linear_decay, "
        "exp_decay), a random place every iteration, or frozen at the first steps.",
        options=list(config.STRATEGIES),
    ),
    Field(
        "window_size", "window.size", io.Int,
        "Random steps an iteration, which are the trained ones. Update time grows with it. The paper: 4. 0 takes every "
        "step but the last (DanceGRPO, Flow-GRPO).",
        min=0, max=999,
    ),
    Field(
        "trained_share", "window.trained_share", io.Float,
        "Share of the window's steps that are trained, drawn at random every iteration. Update time grows with it. "
        "1 trains all; DanceGRPO: 0.6.",
        min=0.01, max=1.0, step=0.01,
    ),
    Field(
        "window_stride", "window.stride", io.Int,
        "By how many steps the window moves.",
        min=1, max=999,
    ),
    Field(
        "window_interval", "window.interval", io.Int,
        "Iterations that the window stays at a place. The paper: 25 of 300.",
        min=1, max=100000,
    ),
    Field(
        "window_max_start", "window.max_start", io.Int,
        "Last step index at which the window may start; -1 allows all. Early steps decide what is in the image, late "
        "ones its texture; short runs do well with early ones only.",
        min=-1, max=999,
    ),
    Field(
        "window_wrap", "window.wrap", io.Boolean,
        "After its last place the window starts again at the first; otherwise it stays there.",
    ),
    # How images are compared, and what is learned from it.
    Field(
        "reward_mix", "loss.mix", io.Combo,
        "With several rewards. advantages: each is compared inside its group first, so that all count alike whatever "
        "their scales. rewards: the raw scores are mixed.",
        options=list(advantage.MIXES),
    ),
    Field(
        "advantage_clip", "loss.advantage_clip", io.Float,
        "Advantages are clipped to +- this many standard deviations of their group.",
        min=0.1, max=100.0, step=0.1,
    ),
    Field(
        "surrogate", "loss.surrogate", io.Combo,
        "How far an image may pull. clip: PPO's clipped ratio (the paper). ratio_norm: the ratio freed of its bias, so "
        "that clipping acts on all steps alike (GRPO-Guard). kl_mask: no clip, images that have moved too far are left "
        "out (Flow-DPPO). All cost the same time.",
        options=list(objective.SURROGATES),
    ),
    Field(
        "clip_range", "loss.clip_range", io.Float,
        "For clip and ratio_norm: probability ratios leave the gradient beyond 1 +- this. It belongs to the mean "
        "log-probability over all latent values and isn't PPO's 0.2. The paper: 0.0001.",
        min=1e-8, max=1.0, step=1e-5,
    ),
    Field(
        "kl_mask_threshold", "loss.kl_mask_threshold", io.Float,
        "For kl_mask: how far a step may move from the policy that sampled it, as KL a latent value. Flow-DPPO: "
        "0.000001.",
        min=1e-10, max=1.0, step=1e-7,
    ),
    Field(
        "kl_weight", "loss.kl_weight", io.Float,
        "Pulls the model back to the base where it drifts without winning reward. 0 turns it off; 0.0001 to 0.1 is "
        "usual. Costs one more model call without gradient per trained step.",
        min=0.0, max=100.0, step=0.0001,
    ),
    Field(
        "kl_space", "loss.kl_space", io.Combo,
        "What kl_weight weighs. velocity: the squared difference of the velocities, all steps alike. mean: the exact "
        "KL of a step, which grows as its noise shrinks (Flow-GRPO). Both cost the same.",
        options=list(objective.KL_SPACES),
    ),
    # The optimizer.
    Field(
        "learning_rate", "optimizer.learning_rate", io.Float,
        "AdamW's learning rate. 1e-4 to 3e-4 suits a LoRA of a large model.",
        min=1e-8, max=1.0, step=1e-6,
    ),
    Field(
        "learning_rate_schedule", "optimizer.schedule", io.Combo,
        "constant (the paper), or linear: falls to 0 at the last iteration, good for short runs.",
        options=list(config.SCHEDULES),
    ),
    Field(
        "weight_decay", "optimizer.weight_decay", io.Float,
        "AdamW's weight decay.",
        min=0.0, max=1.0, step=1e-5,
    ),
    Field(
        "max_grad_norm", "optimizer.max_grad_norm", io.Float,
        "The gradient is scaled down to this norm.",
        min=1e-6, max=1e6, step=0.01,
    ),
    Field(
        "updates", "optimizer.updates", io.Int,
        "Gradient updates an iteration: its images are split at random into so many minibatches.",
        min=1, max=256,
    ),
    Field(
        "ema_decay", "optimizer.ema_decay", io.Float,
        "Measured and saved is a moving average of the LoRA over iterations, which is steadier than its last state: "
        "0.9 averages about 10 iterations, 0.95 about 20. 0 turns it off. Costs the LoRA's memory once more.",
        min=0.0, max=0.9999, step=0.001,
    ),
    # Memory.
    Field(
        "rollout_batch_size", "rollout.batch_size", io.Int,
        "Images a model call while sampling. 0 takes as many as should fit, and half as many whenever memory runs out.",
        min=0, max=1024,
    ),
    Field(
        "update_batch_size", "optimizer.batch_size", io.Int,
        "Images a model call in the update. 0 takes what should fit, and half as many whenever memory runs out. The "
        "result stays the same.",
        min=0, max=1024,
    ),
)  # fmt: skip
