"""Images as CLIP networks want them: what Pillow and torchvision do to one image, done to a whole batch on its device.

Published scorers read 8-bit pictures and resize them with Pillow, which rounds to 8 bits after each direction. A
resize in plain floating point differs from that by up to 20 of 256 levels at sharp edges. So the same is done here:
256 levels, first the width, then the height, each rounded. What is left is one level in fewer than 1 pixel of 1000.

Pillow 13 takes the height first for some tall images; the numbers that were published are those of older versions.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# Of the data that OpenAI's CLIP was trained on; LAION's, HPS and PickScore keep them.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def cropped(images: Tensor, size: int) -> Tensor:
    """The shorter side to `size`, then the centre square: OpenAI's transform and transformers' CLIPImageProcessor.

    images: float (batch, height, width, 3) in 0..1; returns float32 (batch, 3, size, size), normalised.
    The longer side is rounded down and the crop's corner to the nearest pixel, half to even, as torchvision does
    (transformers before version 5 rounded the corner down: one pixel's difference where a side is odd).
    """
    levels = _levels(images)
    height, width = levels.shape[2:]
    shorter = min(height, width)
    levels = _resized(levels, size * height // shorter, size * width // shorter)
    top, left = (round((side - size) / 2) for side in levels.shape[2:])
    return _normalised(levels[:, :, top : top + size, left : left + size])


def padded(images: Tensor, size: int) -> Tensor:
    """The longer side to `size`, then black on both sides of the shorter: the transform that HPSv2 scores with.

    Shapes as in cropped(). Source: `light_augmentation` in tgxs002/HPSv2, which sets open_clip's ResizeMaxSize.
    """
    levels = _levels(images)
    height, width = levels.shape[2:]
    scale = size / max(height, width)
    levels = _resized(levels, max(round(height * scale), 1), max(round(width * scale), 1))
    below, beside = (size - side for side in levels.shape[2:])
    around = (beside // 2, beside - beside // 2, below // 2, below - below // 2)
    return _normalised(F.pad(levels, around))


def _levels(images: Tensor) -> Tensor:
    """(batch, 3, height, width) in whole numbers from 0 to 255, as a saved picture has them."""
    return (images.movedim(-1, 1).float() * 255).round().clamp(0, 255)


def _resized(levels: Tensor, height: int, width: int) -> Tensor:
    for size in ((levels.shape[2], width), (height, width)):
        if size != tuple(levels.shape[2:]):
            # Halves go up, as in Pillow: they are common where a side is halved.
            levels = (F.interpolate(levels, size, mode="bicubic", antialias=True) + 0.5).floor().clamp(0, 255)
    return levels


def _normalised(levels: Tensor) -> Tensor:
    mean, std = (torch.tensor(values, device=levels.device).view(3, 1, 1) for values in (MEAN, STD))
    return (levels / 255 - mean) / std
