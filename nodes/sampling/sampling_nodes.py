"""MixGRPO_Sampler, MixGRPO_Sigmas and MixGRPO_HybridGuider: the algorithm's sampling for stock graphs."""

from __future__ import annotations

from comfy_api.latest import io

from ...mixgrpo_engine import config
from ...mixgrpo_engine.config import RolloutConfig, TrainConfig
from ...mixgrpo_engine.solvers import VARIANTS
from ..category import CATEGORY
from ..model.families import check_flow_matching
from ..model.schedule import window_sigmas
from .rollout_sampler import rollout_sampler

SAMPLING = f"{CATEGORY}/sampling"


class MixGRPOSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_Sampler",
            display_name="MixGRPO Sampler",
            category=SAMPLING,
            description="Samples as a MixGRPO training does: Euler steps, but random ones inside a window. For "
            "SamplerCustomAdvanced with a flow-matching model. An image depends on the seed alone, not on the batch.",
            inputs=[
                io.Int.Input(
                    "window_start", default=0, min=0, max=9999,
                    tooltip="Index of the first random step, from 0. Early steps decide what is in the image, late "
                    "ones its texture.",
                ),
                io.Int.Input(
                    "window_size", default=4, min=0, max=9999,
                    tooltip="Number of random steps; the last step of the schedule can't be one. 0 turns the window "
                    "off: plain Euler, as KSampler has it.",
                ),
                io.Combo.Input(
                    "transition", options=list(config.TRANSITIONS), default="flow_sde",
                    tooltip="The random step: flow_sde (the paper, Flow-GRPO), dance_sde (DanceGRPO), or cps (keeps "
                    "the noise level exactly).",
                ),
                io.Float.Input(
                    "eta", default=0.7, min=0.01, max=4.0, step=0.01,
                    tooltip="Strength of the noise inside the window. More makes images of one prompt more "
                    "different; too much spoils them. cps takes values below 2.",
                ),
                io.Int.Input(
                    "tail_order", default=1, min=1, max=3,
                    tooltip="Order of the DPM-Solver++ for the steps after the window: 1 is Euler; 2 goes with a "
                    "flash_ratio below 1 in MixGRPO Sigmas. A step costs the same at every order.",
                ),
                io.Combo.Input(
                    "tail_variant", options=list(VARIANTS), default="midpoint",
                    tooltip="Form of the second-order solver; the other orders have only one. midpoint is the better "
                    "one in the paper.",
                ),
            ],
            outputs=[io.Sampler.Output(display_name="sampler", tooltip="For SamplerCustomAdvanced.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, window_start, window_size, transition, eta, tail_order, tail_variant) -> io.NodeOutput:
        # The settings' own checks, with their sentences; whether the window fits is known when it meets its sigmas.
        TrainConfig(
            RolloutConfig(transition=transition, eta=eta, tail_order=tail_order, tail_variant=tail_variant)
        ).validate()
        window = range(window_start, window_start + window_size)
        return io.NodeOutput(
            rollout_sampler(window, transition=transition, eta=eta, tail_order=tail_order, tail_variant=tail_variant)
        )


class MixGRPOSigmas(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_Sigmas",
            display_name="MixGRPO Sigmas",
            category=SAMPLING,
            description="The noise levels of a MixGRPO training: evenly spaced and shifted, and for MixGRPO-Flash with "
            "fewer steps after the window.",
            inputs=[
                io.Model.Input("model", tooltip="A flow-matching model, for its own time shift."),
                io.Int.Input(
                    "steps", default=25, min=1, max=10000, tooltip="Denoising steps before Flash takes some away."
                ),
                io.Float.Input(
                    "shift", default=0.0, min=0.0, max=20.0, step=0.01,
                    tooltip="Time shift of the noise levels: higher spends more steps on high noise. 0 takes the "
                    "model's own (ModelSampling nodes count).",
                ),
                io.Float.Input(
                    "flash_ratio", default=1.0, min=0.01, max=1.0, step=0.01,
                    tooltip="MixGRPO-Flash: share of the steps after the window that are kept. 1 keeps all and needs "
                    "no window; the paper's Flash takes 0.4, Flash* 0.2.",
                ),
                io.Int.Input(
                    "window_start", default=0, min=0, max=9999,
                    tooltip="The sampler's window_start. It matters only with flash_ratio below 1.",
                ),
                io.Int.Input(
                    "window_size", default=4, min=0, max=9999,
                    tooltip="The sampler's window_size. It matters only with flash_ratio below 1.",
                ),
            ],
            outputs=[io.Sigmas.Output(display_name="sigmas", tooltip="For SamplerCustomAdvanced: from 1 to 0.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, steps, shift, flash_ratio, window_start, window_size) -> io.NodeOutput:
        check_flow_matching(model)
        window = range(window_start, window_start + window_size)
        return io.NodeOutput(
            window_sigmas(model.get_model_object("model_sampling"), steps, shift, window, flash_ratio)
        )


class MixGRPOHybridGuider(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_HybridGuider",
            display_name="MixGRPO Hybrid Guider",
            category=SAMPLING,
            description="Two models in one sampling: the tuned one for the first, noisy steps, the base for the rest. "
            "It keeps what the tuning has won in content and takes the base's texture: the paper's means against "
            "reward hacking.",
            inputs=[
                io.Model.Input("tuned", tooltip="The trained model, e.g. from MixGRPO Apply Run or a LoRA loader."),
                io.Model.Input("base", tooltip="The same model without the training."),
                io.Conditioning.Input("positive", tooltip="The prompt, for both models."),
                io.Conditioning.Input("negative", tooltip="The negative prompt, for both models. Unused at cfg 1."),
                io.Float.Input(
                    "cfg", default=1.0, min=0.0, max=100.0, step=0.1,
                    tooltip="Classifier-free guidance, for both models; 1 turns it off and halves the cost. Take the "
                    "value of the training.",
                ),
                io.Float.Input(
                    "tuned_share", default=0.8, min=0.0, max=1.0, step=0.01,
                    tooltip="Share of the steps, the first ones, that the tuned model does; rounded to whole steps. "
                    "1: only the tuned model, 0: only the base. The paper's best: 0.8.",
                ),
            ],
            outputs=[io.Guider.Output(display_name="guider", tooltip="For SamplerCustomAdvanced, with any sampler.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, tuned, base, positive, negative, cfg, tuned_share) -> io.NodeOutput:
        from .hybrid_guider import HybridGuider

        for model in (tuned, base):
            check_flow_matching(model)
        formats = [model.model.latent_format for model in (tuned, base)]
        if type(formats[0]) is not type(formats[1]):
            kinds = " and ".join(type(latents).__name__ for latents in formats)
            raise ValueError(f"tuned and base have different latents ({kinds}): connect the same model twice.")
        guider = HybridGuider(tuned, base, tuned_share)
        guider.set_conds(positive, negative)
        guider.set_cfg(cfg)
        return io.NodeOutput(guider)


NODES = [MixGRPOSampler, MixGRPOSigmas, MixGRPOHybridGuider]
