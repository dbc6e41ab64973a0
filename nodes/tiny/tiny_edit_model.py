"""MixGRPO_TinyEditModel: the tiny model with a picture's latents beside the noisy ones, by ReferenceLatent."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..category import CATEGORY
from ..comfy_types import Model
from . import tiny_model

LATENTS = 16  # channels


class MixGRPOTinyEditModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_TinyEditModel",
            display_name="MixGRPO Tiny Edit Model",
            category=CATEGORY,
            description="A tiny edit model at 64x64 pixels: it draws what the prompt says, such as 'a blue circle on a "
            "white background', with all else as in the picture that ReferenceLatent gives it. It comes with this "
            "pack and trains on a CPU in minutes; MixGRPO Tiny Edits has pictures and prompts for it.",
            inputs=[],
            outputs=[
                io.Model.Output(
                    display_name="model",
                    tooltip="The denoiser. For KSampler: euler, simple, 25 steps, cfg 1, an EmptySD3LatentImage of "
                    "64x64 pixels, and a positive with ReferenceLatent.",
                ),
                io.Clip.Output(display_name="clip", tooltip="MixGRPO Tiny Model's text encoder."),
                io.Vae.Output(display_name="vae", tooltip="MixGRPO Tiny Model's VAE, for the picture, too."),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        from .text_encoder import load_clip

        return io.NodeOutput(load_model(), load_clip(tiny_model.TEXT_ENCODER), tiny_model.load_vae())


def load_model() -> Model:
    """The denoiser, whose input is twice as wide, as an ordinary MODEL. Raises FileNotFoundError if the file is gone.

    ComfyUI reads a model's kind off its weights: it loads the half that it knows, and gets the other half afterwards.
    """
    import comfy.model_base
    import comfy.sd
    import comfy.utils
    from torch import Tensor, nn

    class TinyEdit(comfy.model_base.SD3):
        def concat_cond(self, **given: Any) -> Tensor:
            """(1, 16, height, width) in the network's space; nothing where there is no picture."""
            noise, references = given["noise"], given.get("reference_latents")
            if references is None:
                return noise.new_zeros(noise.shape)
            latent = comfy.utils.common_upscale(references[-1].to(noise), *noise.shape[:-3:-1], "bilinear", "disabled")
            return self.process_latent_in(latent)

    weights = comfy.utils.load_torch_file(tiny_model.existing(tiny_model.EDIT_DENOISER), safe_load=True)
    wide = weights["x_embedder.proj.weight"]
    model = comfy.sd.load_diffusion_model_state_dict(
        weights | {"x_embedder.proj.weight": wide[:, :LATENTS].contiguous()}
    )
    embedder = model.model.diffusion_model.x_embedder.proj
    embedder.weight = nn.Parameter(wide.to(embedder.weight), requires_grad=False)
    model.model.__class__ = TinyEdit
    return model


NODES = [MixGRPOTinyEditModel]
