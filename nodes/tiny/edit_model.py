"""The tiny edit model: the tiny denoiser with a picture's latents beside the noisy ones, by ReferenceLatent."""

from __future__ import annotations

from typing import Any

from ..comfy_types import Model


def load(path: str, latents: int = 16) -> Model:
    """The denoiser of a file whose input is twice as wide, as an ordinary MODEL.

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

    weights = comfy.utils.load_torch_file(path, safe_load=True)
    wide = weights["x_embedder.proj.weight"]
    model = comfy.sd.load_diffusion_model_state_dict(
        weights | {"x_embedder.proj.weight": wide[:, :latents].contiguous()}
    )
    embedder = model.model.diffusion_model.x_embedder.proj
    embedder.weight = nn.Parameter(wide.to(embedder.weight), requires_grad=False)
    model.model.__class__ = TinyEdit
    return model
