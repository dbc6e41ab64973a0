"""Plain statistics of a picture: what a taste can see of it without any network."""

from __future__ import annotations

import torch
from torch import Tensor

COUNT = 27
SIDE = 64  # pixels that a picture is looked at with


def statistics(images: Tensor) -> Tensor:
    """images: float (batch, height, width, 3) in 0..1; float32 (batch, 27).

    Mean and spread of each colour (6), its histogram in fours (12), brightness' spread left to right and top to bottom
    (2), where the saturated part lies and how large it is (3), edges across and down (2), mean and spread of the
    saturation (2).
    """
    small = torch.nn.functional.interpolate(images.float().movedim(-1, 1), (SIDE, SIDE), mode="area")
    mean, spread = small.mean((2, 3)), small.std((2, 3))
    bins = torch.stack([((small >= low) & (small < low + 0.25)).float().mean((2, 3)) for low in (0.0, 0.25, 0.5)], 2)
    histogram = torch.cat([bins, 1 - bins.sum(2, keepdim=True)], 2).flatten(1)
    brightness = small.mean(1)
    halves = torch.stack(
        [
            brightness[:, :, : SIDE // 2].mean((1, 2)) - brightness[:, :, SIDE // 2 :].mean((1, 2)),
            brightness[:, : SIDE // 2].mean((1, 2)) - brightness[:, SIDE // 2 :].mean((1, 2)),
        ],
        1,
    )
    saturation = small.amax(1) - small.amin(1)
    axis = torch.linspace(-1, 1, SIDE)
    weight = saturation.sum((1, 2)).clamp(min=1e-6)
    across, down = (saturation.sum(1) @ axis) / weight, (saturation.sum(2) @ axis) / weight
    area = (saturation > 0.5 * saturation.amax((1, 2))[:, None, None].clamp(min=0.1)).float().mean((1, 2))
    edges = torch.stack([brightness.diff(dim=2).abs().mean((1, 2)), brightness.diff(dim=1).abs().mean((1, 2))], 1)
    of_saturation = torch.stack([saturation.mean((1, 2)), saturation.std((1, 2))], 1)
    return torch.cat([mean, spread, histogram, halves, torch.stack([across, down, area], 1), edges, of_saturation], 1)
