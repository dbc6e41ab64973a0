"""Tiny random models from ComfyUI's own classes: no files, the real code paths."""

from .build import randomise
from .families import (
    FAMILIES,
    WAN_FILE,
    Family,
    auraflow,
    chroma,
    flux,
    flux2,
    hidream,
    hunyuan_image,
    lumina2,
    omnigen2,
    qwen_image,
    sd3,
    wan21,
    wan22,
    z_image,
)
from .parts import CONTEXT, POOLED, SIZE, clip, conditioning, sd15, train_a_little, vae, wan_vae
from .text import flux_clip, hidream_clip

__all__ = [
    "CONTEXT", "FAMILIES", "POOLED", "SIZE", "WAN_FILE", "Family", "auraflow", "chroma", "clip", "conditioning", "flux",
    "flux2", "flux_clip", "hidream", "hidream_clip", "hunyuan_image", "lumina2", "omnigen2", "qwen_image", "randomise",
    "sd3", "sd15", "train_a_little", "vae", "wan21", "wan22", "wan_vae", "z_image",
]  # fmt: skip
