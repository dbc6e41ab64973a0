"""Which MODELs can be trained, and what single families need beyond the common path.

Most need nothing: conditioning, latents, sigmas and network come from the MODEL's own classes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..comfy_types import BaseModel, Conditioning, Model, ModelSampling

GUIDANCE = "guidance"  # the conditioning's key that the FluxGuidance node sets, and of the model's own input

# BaseModel classes. What they need beside a prompt, where their input channels don't show it:
NEEDS_MORE = {"WAN21_Vace": "a control video", "WAN22_S2V": "a picture and sound"}
# those that are given a blank picture to make a picture or video from text alone,
BLANK_FOR_TEXT = ("HunyuanVideo15", "Kandinsky5")
# and those whose blocks change the stream in place after a norm has saved it, out of reach of gradients.py.
OVERWRITING = ("LTXV", "LTXAV")


def check_flow_matching(model: Model) -> None:
    """Raises ValueError unless the MODEL predicts the velocity of a straight path from noise (sigma 1) to image.

    It may predict the image instead: the path being straight, that is the velocity in other words.
    """
    sampling = model.get_model_object("model_sampling")
    if not _is_straight_path(sampling) or _prediction(sampling) is None:
        kind = getattr(getattr(model.model, "model_type", None), "name", type(sampling).__name__)
        raise ValueError(
            f"This MODEL is a {type(model.model).__name__} of type {kind}, which isn't flow matching: "
            "use a model such as SD3, FLUX, AuraFlow, Qwen-Image or Lumina 2."
        )
    # HunyuanImage 2.1 distilled: its output belongs to a pair of noise levels, so it isn't a velocity at any one.
    if getattr(model.model.diffusion_model, "time_r_in", None) is not None:
        raise ValueError(
            f"This MODEL is a MeanFlow {type(model.model).__name__}: it predicts whole steps, not a velocity that "
            "noise could be added to. Use the undistilled model."
        )


def check_trainable(model: Model, items: bool = False) -> None:
    """Raises ValueError for a MODEL that isn't flow matching, needs more than a prompt, or has no gradient.

    items: the prompts' conditionings may bring a picture.
    """
    check_flow_matching(model)
    base, kind = model.model, type(model.model).__name__
    missing = NEEDS_MORE.get(kind) or ("" if items else missing_picture(base))
    if missing:
        advice = "use" if kind in NEEDS_MORE else "give it by MixGRPO Item and positive of MixGRPO Train, or use"
        raise ValueError(
            f"This MODEL ({kind}) needs {missing}, and training has only prompts: {advice} the model's text-to-image "
            "or text-to-video kin."
        )
    if kind in OVERWRITING:
        raise ValueError(f"This MODEL ({kind}) can't be trained: its blocks overwrite tensors that its gradient needs.")
    for layer in base.diffusion_model.modules():
        name = type(layer).__name__
        if hasattr(layer, "in_features") and not isinstance(layer, nn.Linear) and name != "Linear":
            raise ValueError(
                f"This MODEL has layers ({name}) that take no LoRA and may have no gradient, as some quantised models "
                "have: load it in bf16 or fp8 by ComfyUI's own loaders, or from a GGUF file."
            )


def missing_picture(model: BaseModel) -> str:
    """What the model reads beside the latents, from the channels that ComfyUI would fill with a blank picture; "" for
    nothing."""
    latents = model.latent_format.latent_channels
    blank = torch.zeros(1, latents, *(1,) * (model.latent_format.latent_dimensions - 2), 16, 16)
    concat = model.concat_cond(noise=blank, latent_image=blank, denoise_mask=None, device=blank.device)
    if concat is None or type(model).__name__ in BLANK_FOR_TEXT:
        return ""
    what = "a picture" if concat.shape[1] == latents else "a picture and its mask"
    return f"{what} ({concat.shape[1]} input channels beside its {latents} of latents)"


def velocity_of_output(sampling: ModelSampling) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """What to put in place of a flow model's `calculate_denoised(sigma, output, latents)` to get its velocity.

    The output as it is where it is the velocity: by way of the denoised image it would be rounded twice.
    """
    return _output_itself if _prediction(sampling) == "velocity" else _velocity_to_image


def with_guidance(conditioning: Conditioning, guidance: float) -> Conditioning:
    """The conditioning as the FluxGuidance node makes it; 0 leaves it as it is, and the model takes its default."""
    return [[tokens, {**extras, GUIDANCE: guidance}] for tokens, extras in conditioning] if guidance else conditioning


def check_guidance(model: BaseModel, guidance: float) -> None:
    """Raises ValueError for a guidance that this MODEL would ignore. model: a BaseModel."""
    network = model.diffusion_model
    if not guidance or getattr(network, "distilled_guidance_layer", None) is not None:
        return
    if not getattr(getattr(network, "params", None), "guidance_embed", False):
        raise ValueError(
            f"guidance is {guidance:g}, but this MODEL ({type(model).__name__}) has no guidance embedding: "
            "set it to 0, and use cfg instead."
        )


def _is_straight_path(sampling: ModelSampling) -> bool:
    """Whether the latents at sigma are (1 - sigma) * image + sigma * noise, and given to the network as they are."""
    half, noise, image = torch.full((1,), 0.5), torch.full((1, 1), 3.0), torch.full((1, 1), 5.0)
    return (
        sampling.percent_to_sigma(0.0) == 1
        and sampling.percent_to_sigma(1.0) == 0
        and float(sampling.calculate_input(half, noise)) == 3
        and float(sampling.noise_scaling(half, noise, image)) == 4
    )


def _prediction(sampling: ModelSampling) -> str | None:
    """What the network gives: "velocity", "image", or None for something else."""
    half, output, latents = torch.full((1,), 0.5), torch.full((1, 1), 3.0), torch.full((1, 1), 5.0)
    return {3.5: "velocity", 3.0: "image"}.get(float(sampling.calculate_denoised(half, output, latents)))


def _output_itself(_sigma: Tensor, output: Tensor, _latents: Tensor) -> Tensor:
    return output


def _velocity_to_image(sigma: Tensor, output: Tensor, latents: Tensor) -> Tensor:
    return (latents - output) / sigma.view(-1, *[1] * (latents.ndim - 1))
