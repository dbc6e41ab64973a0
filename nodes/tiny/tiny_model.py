"""MixGRPO_TinyModel: the embedded model, so that everything can be tried without a download."""

from __future__ import annotations

from pathlib import Path

from comfy_api.latest import io

from ..category import CATEGORY
from ..comfy_types import Model, Network, Vae

ASSETS = Path(__file__).resolve().parents[2] / "mixgrpo_engine" / "assets"
DENOISER, EDIT_DENOISER, TEXT_ENCODER, VAE = (
    ASSETS / f"tiny_{part}.safetensors" for part in ("denoiser", "edit_denoiser", "text_encoder", "vae")
)  # fmt: skip


class MixGRPOTinyModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_TinyModel",
            display_name="MixGRPO Tiny Model",
            category=CATEGORY,
            description="A tiny model of the SD3 family that draws coloured shapes at 64x64 pixels, from prompts like "
            "'a red circle to the left of a blue square on a white background'. It comes with this pack and trains "
            "on a CPU in minutes.",
            inputs=[],
            outputs=[
                io.Model.Output(
                    display_name="model",
                    tooltip="The denoiser (1.1 million parameters). For KSampler: euler, simple, 25 steps, cfg 1. "
                    "It takes an EmptySD3LatentImage of 64x64 pixels.",
                ),
                io.Clip.Output(
                    display_name="clip", tooltip="The text encoder, for CLIP Text Encode. It knows about 30 words."
                ),
                io.Vae.Output(display_name="vae", tooltip="The VAE, for VAE Decode and VAE Encode."),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        from .text_encoder import load_clip

        return io.NodeOutput(load_model(), load_clip(TEXT_ENCODER), load_vae())


def load_model() -> Model:
    """The denoiser as an ordinary MODEL, by ComfyUI's own loading. Raises FileNotFoundError if the file is gone."""
    import comfy.sd
    import comfy.utils

    weights = comfy.utils.load_torch_file(existing(DENOISER), safe_load=True)
    return comfy.sd.load_diffusion_model_state_dict(weights)


def load_vae() -> Vae:
    """The VAE by ComfyUI's own loading. Raises FileNotFoundError if the file is gone.

    The file holds a thinner TAESD than ComfyUI knows. Padded with zeros it is the same function: channels of zeros
    stay zero, and a block of zeros passes on what it gets. So once ComfyUI has loaded it, the zeros are cut off again:
    the same images in a fraction of the time.
    """
    import comfy.sd
    import comfy.utils
    import torch
    from comfy.taesd.taesd import TAESD

    thin = comfy.utils.load_torch_file(existing(VAE), safe_load=True)
    stock = TAESD(latent_channels=thin["taesd_decoder.1.weight"].shape[1]).state_dict()
    padded = {}
    for key, weight in stock.items():
        padded[key] = weight.new_zeros(weight.shape)
        if key in thin:
            padded[key][tuple(slice(size) for size in thin[key].shape)] = thin[key]
    vae = comfy.sd.VAE(sd=padded)
    _cut_off_zeros(vae.first_stage_model, thin)
    # On a CPU thin convolutions run twice as fast with the channels last.
    vae.first_stage_model.to(memory_format=torch.channels_last)
    return vae


def _cut_off_zeros(taesd: Network, thin: dict) -> None:
    from torch import nn

    for name, parameter in list(taesd.named_parameters()):
        if name in thin:
            owner, _, kind = name.rpartition(".")
            corner = parameter.detach()[tuple(slice(size) for size in thin[name].shape)].clone()
            setattr(taesd.get_submodule(owner), kind, nn.Parameter(corner, requires_grad=False))
    kept = {tuple(name.split(".")[:2]) for name in thin}
    for side in ("taesd_encoder", "taesd_decoder"):
        layers = getattr(taesd, side)
        for index, layer in layers.named_children():
            if (side, index) not in kept and any(True for _ in layer.parameters()):
                layers[int(index)] = nn.ReLU()  # what is left of a residual block of zeros


def existing(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(
            f"The tiny model's file {path.name} is missing from {path.parent}: reinstall the pack to get it back."
        )
    return str(path)


NODES = [MixGRPOTinyModel]
