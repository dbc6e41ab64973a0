"""Stage 3: the shipped files, fp16 with what they are in their metadata."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from . import text
from .vae import TinyVAE

FOLDER = Path(__file__).resolve().parents[1] / "mixgrpo_engine" / "assets"


def write(
    vae: TinyVAE, encoder: text.TextEncoder, denoiser: nn.Module, folder: Path = FOLDER, made: dict | None = None
) -> None:
    """Write the three files; ``made`` (how they were made) goes into their metadata."""
    about = {"license": "Apache-2.0", **{key: str(value) for key, value in (made or {}).items()}}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(vae.asset(), folder / "tiny_vae.safetensors", about | {"architecture": "thin TAESD"})
    reading = {
        "architecture": "CLIP text model with a vocabulary of words",
        "config": json.dumps(text.CONFIG | {"vocab_size": len(text.vocabulary())}),
        "vocabulary": json.dumps(text.vocabulary()),
    }
    save_file(_half(encoder), folder / "tiny_text_encoder.safetensors", about | reading)
    save_file(_half(denoiser), folder / "tiny_denoiser.safetensors", about | {"architecture": "SD3 MMDiT, depth 2"})


def _half(model: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.half().contiguous() for key, value in model.state_dict().items()}
