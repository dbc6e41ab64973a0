"""Small CLIPs of random weights, made by the libraries that publish the large ones, and images to score."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

SIZE, PATCH, EMBEDDING = 32, 8, 48
VISION_WIDTH, TEXT_WIDTH = 128, 64
PROMPTS = [
    "a red circle on the left",
    "",
    "caf\u00e9 na\u00efve \u00fcber \u4e2d\u6587 \U0001f600 \u0416\u0443\u043a",
    "a very long prompt about a quiet harbour, " * 30,
    "Two CATS,   don't  run!",
    "the artist\u2019s \u201cbest\u201d work &amp; more",
]
# Odd sizes, both orientations, larger and smaller than what the network sees, and one that is right already.
SIZES = [(37, 91), (150, 101), (64, 64), (19, 23), (32, 32)]


@lru_cache
def transformers_clip(activation: str = "quick_gelu", logit_scale: float = 4.5) -> nn.Module:
    from transformers import CLIPConfig, CLIPModel

    tower = {"num_hidden_layers": 2, "projection_dim": EMBEDDING, "hidden_act": activation}
    config = CLIPConfig(
        vision_config={
            **tower, "hidden_size": VISION_WIDTH, "intermediate_size": 200, "num_attention_heads": 2,
            "image_size": SIZE, "patch_size": PATCH,
        },
        text_config={**tower, "hidden_size": TEXT_WIDTH, "intermediate_size": 100, "num_attention_heads": 1},
        projection_dim=EMBEDDING,
        logit_scale_init_value=logit_scale,
    )  # fmt: skip
    return scattered(CLIPModel(config))


@lru_cache
def open_clip_clip(quick_gelu: bool = False, vision_width: int = VISION_WIDTH, head_width: int = 64) -> nn.Module:
    from open_clip.model import CLIP

    vision = {
        "layers": 2, "width": vision_width, "head_width": head_width, "mlp_ratio": 1.5,
        "patch_size": PATCH, "image_size": SIZE,
    }  # fmt: skip
    text = {"width": TEXT_WIDTH, "heads": 1, "layers": 2}
    return scattered(CLIP(EMBEDDING, vision, text, quick_gelu=quick_gelu))


def scattered(network: nn.Module) -> nn.Module:
    """New random weights, so large that other images and prompts give clearly other embeddings."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("logit_scale"):
                continue
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                parameter.copy_(noise / parameter[0].numel() ** 0.5 * 1.5)
            elif "norm" in name or "layrnorm" in name or "ln_" in name:
                parameter.add_(noise * 0.1)
            else:
                parameter.copy_(noise * 0.1)
    return network.eval().requires_grad_(False)


def pictures(count: int, height: int, width: int, seed: int = 0) -> Tensor:
    """(count, height, width, 3) in 256 levels from 0 to 1: patches of colour with sharp edges, and some grain."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 5, 7, generator=generator)
    images = nn.functional.interpolate(coarse, (height, width), mode="nearest")
    images = images + 0.1 * torch.randn(images.shape, generator=generator)
    return (images.clamp(0, 1) * 255).round().movedim(1, -1) / 255


def as_pillow(images: Tensor) -> list[Image.Image]:
    return [Image.fromarray((image * 255).round().byte().numpy()) for image in images]


def saved(network: nn.Module, path: Path) -> Path:
    """Its weights as .safetensors, or as the .pt that holds them as "state_dict"."""
    tensors = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save({"state_dict": tensors, "epoch": 3}, path)
    return path


def cropped_by_pillow(images: Tensor) -> Tensor:
    """What the published transform makes of pictures: Pillow, one at a time; shorter side, then centre crop."""
    return _transformed(images, None)


def padded_by_pillow(images: Tensor) -> Tensor:
    """As HPSv2 does it: longer side, then black borders."""
    return _transformed(images, "longest")


def _transformed(images: Tensor, resize_mode: str | None) -> Tensor:
    from open_clip import image_transform

    transform = image_transform(SIZE, is_train=False, resize_mode=resize_mode)
    return torch.stack([transform(image) for image in as_pillow(images)])
