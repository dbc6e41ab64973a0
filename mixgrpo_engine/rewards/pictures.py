"""What the scorers share that look at pictures as files: pixels of a batch, and why images got no score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import torch
from PIL import Image
from torch import Tensor

NOT_FINITE = "it holds values that aren't finite numbers"


def picture(image: Tensor) -> Image.Image | None:
    """An image (height, width, 3) in 0..1 as 8-bit RGB; None when it isn't finite."""
    image = image.detach().float()
    if not image.isfinite().all():
        return None
    return Image.fromarray((image.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy())


def counted(reasons: Iterable[str], total: int) -> list[str]:
    """Why images of a batch of `total` got no score, the commonest first: each reason once, with a count."""
    found = Counter(reasons).most_common()
    return [f"{count} of {total} images: {reason}{'' if reason.endswith('.') else '.'}" for reason, count in found]
