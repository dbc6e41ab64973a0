"""MixGRPO_HybridGuider: the tuned model for the first, noisy steps, the base for the rest."""

from __future__ import annotations

from comfy_api.latest import io

from ..category import SAMPLING
from ..comfy_types import Conditioning, Model
from ..model.families import check_flow_matching


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
    def execute(
        cls,
        tuned: Model,
        base: Model,
        positive: Conditioning,
        negative: Conditioning,
        cfg: float,
        tuned_share: float,
    ) -> io.NodeOutput:
        from .tuned_then_base import HybridGuider

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


NODES = [MixGRPOHybridGuider]
