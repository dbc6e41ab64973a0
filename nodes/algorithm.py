"""MixGRPO_Algorithm and MixGRPO_LoRA: the settings of a run as wires."""

from __future__ import annotations

from dataclasses import dataclass, field

from comfy_api.latest import io

from ..mixgrpo_engine import config
from ..mixgrpo_engine.config import AdapterConfig, LossConfig, OptimizerConfig, RolloutConfig, WindowConfig
from .category import CATEGORY

ALGORITHM = io.Custom("MIXGRPO_ALGORITHM")
LORA = io.Custom("MIXGRPO_LORA")


@dataclass
class Algorithm:
    """What MIXGRPO_ALGORITHM carries."""

    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    window: WindowConfig = field(default_factory=WindowConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)


class MixGRPOAlgorithm(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_Algorithm",
            display_name="MixGRPO Algorithm",
            category=CATEGORY,
            description="How images are sampled, compared and learned from. The defaults are the paper's for FLUX.1.",
            inputs=[
                io.Int.Input(
                    "steps", default=25, min=2, max=1000,
                    tooltip="Denoising steps of a training image. Time grows with it. The paper: 25; SD3.5: 10.",
                ),
                io.Float.Input(
                    "shift", default=0.0, min=0.0, max=20.0, step=0.01,
                    tooltip="Time shift of the noise levels. 0 takes the model's own (ModelSampling nodes count).",
                ),
                io.Combo.Input(
                    "transition", options=list(config.TRANSITIONS), default="flow_sde",
                    tooltip="The random step inside the window: flow_sde (the paper, Flow-GRPO), dance_sde "
                    "(DanceGRPO), or cps (keeps the noise level exactly; the paper's later choice).",
                ),
                io.Float.Input(
                    "eta", default=0.7, min=0.01, max=4.0, step=0.01,
                    tooltip="Strength of the noise inside the window. More explores more; too much spoils images.",
                ),
                io.Float.Input(
                    "cfg", default=1.0, min=0.0, max=30.0, step=0.1,
                    tooltip="Classifier-free guidance in training. 1 turns it off and halves the cost. Sample later "
                    "with the same value.",
                ),
                io.Int.Input(
                    "group_size", default=12, min=2, max=256,
                    tooltip="Images of one prompt that are compared with each other. Time grows with it.",
                ),
                io.Int.Input(
                    "prompts_per_iteration", default=1, min=1, max=256,
                    tooltip="Different prompts an iteration. Time grows with it; more make learning steadier.",
                ),
                io.Boolean.Input(
                    "shared_noise", default=True,
                    tooltip="All images of a group start from the same noise: better rewards in the paper, and the "
                    "steps before the window run once a prompt instead of once an image.",
                ),
                io.Combo.Input(
                    "window_strategy", options=list(config.STRATEGIES), default="constant",
                    tooltip="How the window of trained steps moves: constant pace, a pace that grows towards the end "
                    "(linear_decay, exp_decay), a random place every iteration, or frozen at the first steps.",
                ),
                io.Int.Input(
                    "window_size", default=4, min=1, max=999,
                    tooltip="Trained steps an iteration. Update time grows with it. The paper: 4.",
                ),
                io.Int.Input(
                    "window_stride", default=1, min=1, max=999,
                    tooltip="By how many steps the window moves.",
                ),
                io.Int.Input(
                    "window_interval", default=25, min=1, max=100000,
                    tooltip="Iterations that the window stays at a place. The paper: 25 of 300.",
                ),
                io.Int.Input(
                    "window_max_start", default=-1, min=-1, max=999,
                    tooltip="Last step index at which the window may start; -1 allows all. Early steps decide what "
                    "is in the image, late ones its texture; short runs do well with early ones only.",
                ),
                io.Boolean.Input(
                    "window_wrap", default=False,
                    tooltip="After its last place the window starts again at the first; otherwise it stays there.",
                ),
                io.Float.Input(
                    "flash_ratio", default=1.0, min=0.01, max=1.0, step=0.01,
                    tooltip="MixGRPO-Flash: share of the steps after the window that are kept. 1 keeps all; the "
                    "paper's Flash takes 0.4. Rollouts get cheaper, training images a little worse.",
                ),
                io.Int.Input(
                    "tail_order", default=1, min=1, max=3,
                    tooltip="Order of the DPM-Solver++ after the window: 1 is Euler, 2 goes with flash_ratio < 1.",
                ),
                io.Float.Input(
                    "learning_rate", default=1e-4, min=1e-8, max=1.0, step=1e-6,
                    tooltip="AdamW's learning rate. 1e-4 to 3e-4 suits a LoRA of a large model.",
                ),
                io.Float.Input(
                    "weight_decay", default=1e-4, min=0.0, max=1.0, step=1e-5,
                    tooltip="AdamW's weight decay.",
                ),
                io.Float.Input(
                    "max_grad_norm", default=1.0, min=1e-6, max=1e6, step=0.01,
                    tooltip="The gradient is scaled down to this norm.",
                ),
                io.Int.Input(
                    "updates", default=4, min=1, max=256,
                    tooltip="Gradient updates an iteration: its images are split at random into so many minibatches.",
                ),
                io.Float.Input(
                    "clip_range", default=1e-4, min=1e-8, max=1.0, step=1e-5,
                    tooltip="Probability ratios leave the gradient beyond 1 +- this. It belongs to the mean "
                    "log-probability over all latent values and isn't PPO's 0.2. The paper: 0.0001.",
                ),
                io.Float.Input(
                    "advantage_clip", default=5.0, min=0.1, max=100.0, step=0.1,
                    tooltip="Advantages are clipped to +- this many standard deviations of their group.",
                ),
                io.Int.Input(
                    "rollout_batch_size", default=0, min=0, max=1024,
                    tooltip="Images a model call while sampling; 0 takes all at once. Lower it when memory is short.",
                ),
                io.Int.Input(
                    "update_batch_size", default=0, min=0, max=1024,
                    tooltip="Images a model call in the update; 0 takes a whole minibatch. Lower it when memory is "
                    "short: the result stays the same.",
                ),
                io.Combo.Input(
                    "learning_rate_schedule", options=list(config.SCHEDULES), default="constant",
                    tooltip="constant (the paper), or linear: falls to 0 at the last iteration, good for short runs.",
                ),
                io.Float.Input(
                    "kl_weight", default=0.0, min=0.0, max=100.0, step=0.001,
                    tooltip="Pulls the model back to the base where it drifts without winning reward. 0 turns it off; "
                    "0.001 to 0.1 is usual. Costs one more model call without gradient per trained step.",
                ),
            ],
            outputs=[ALGORITHM.Output(display_name="algorithm", tooltip="For MixGRPO Train.")],
        )

    @classmethod
    def execute(
        cls, steps, shift, transition, eta, cfg, group_size, prompts_per_iteration, shared_noise, window_strategy,
        window_size, window_stride, window_interval, window_max_start, window_wrap, flash_ratio, tail_order,
        learning_rate, weight_decay, max_grad_norm, updates, clip_range, advantage_clip, rollout_batch_size,
        update_batch_size, learning_rate_schedule, kl_weight,
    ) -> io.NodeOutput:
        algorithm = Algorithm(
            RolloutConfig(
                steps=steps, shift=shift, transition=transition, eta=eta, group_size=group_size,
                prompts_per_iteration=prompts_per_iteration, shared_noise=shared_noise, flash_ratio=flash_ratio,
                tail_order=tail_order, cfg=cfg, batch_size=rollout_batch_size,
            ),
            WindowConfig(
                strategy=window_strategy, size=window_size, stride=window_stride, interval=window_interval,
                wrap=window_wrap, max_start=window_max_start,
            ),
            LossConfig(clip_range=clip_range, advantage_clip=advantage_clip, kl_weight=kl_weight),
            OptimizerConfig(
                learning_rate=learning_rate, weight_decay=weight_decay, max_grad_norm=max_grad_norm, updates=updates,
                batch_size=update_batch_size, schedule=learning_rate_schedule,
            ),
        )  # fmt: skip
        config.TrainConfig(algorithm.rollout, algorithm.window, algorithm.loss, algorithm.optimizer).validate()
        return io.NodeOutput(algorithm)


class MixGRPOLoRA(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_LoRA",
            display_name="MixGRPO LoRA",
            category=CATEGORY,
            description="The adapter that the training learns: its size, and which layers get it.",
            inputs=[
                io.Int.Input(
                    "rank", default=32, min=1, max=1024,
                    tooltip="Width of the low-rank matrices. File size, memory and capacity grow with it.",
                ),
                io.Float.Input(
                    "alpha", default=0.0, min=0.0, max=4096.0, step=0.1,
                    tooltip="The adapter's output is scaled by alpha / rank. 0 takes alpha = rank.",
                ),
                io.String.Input(
                    "targets", default="",
                    tooltip="Fragments of layer names, separated by commas, e.g. attn, mlp. Empty takes all linear "
                    "layers of the transformer blocks.",
                ),
                io.String.Input(
                    "exclude", default="",
                    tooltip="Layers whose name holds one of these fragments (separated by commas) are left out.",
                ),
            ],
            outputs=[LORA.Output(display_name="lora", tooltip="For MixGRPO Train.")],
        )

    @classmethod
    def execute(cls, rank, alpha, targets, exclude) -> io.NodeOutput:
        return io.NodeOutput(AdapterConfig(rank=rank, alpha=alpha, targets=targets, exclude=exclude))


NODES = [MixGRPOAlgorithm, MixGRPOLoRA]
