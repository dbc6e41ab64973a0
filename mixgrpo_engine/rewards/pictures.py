"""What the scorers share that look at pictures as files: pixels of a batch, packed pictures, why there is no score."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Iterable

import torch
from PIL import Image
from torch import Tensor

NOT_FINITE = "it holds values that aren't finite numbers"
FORMATS = ("jpeg", "png", "webp")
MIN_SIDE, MAX_SIDE = 64, 4096  # pixels of a picture that is sent
QUALITY = 95  # of jpeg and webp


def picture(image: Tensor) -> Image.Image | None:
    """An image (height, width, 3) in 0..1 as 8-bit RGB; None when it isn't finite."""
    image = image.detach().float()
    if not image.isfinite().all():
        return None
    return Image.fromarray((image.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy())


def reference_picture(image: Tensor) -> Image.Image:
    """The same of a References' image (height, width, 3) or mask (height, width).

    Raises ValueError when it isn't finite.
    """
    shown = picture(image if image.ndim == 3 else image[..., None].expand(-1, -1, 3))
    if shown is None:
        raise ValueError("A picture of an item holds values that aren't finite numbers.")
    return shown


def data_url(shown: Image.Image, image_format: str, max_side: int) -> str:
    """A picture as a data URL in one of FORMATS, its longer side at most max_side."""
    if max(shown.size) > max_side:
        shown = shown.copy()
        shown.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    shown.save(file, format=image_format.upper(), **({} if image_format == "png" else {"quality": QUALITY}))
    return f"data:image/{image_format};base64,{base64.b64encode(file.getvalue()).decode()}"


def check_packing(image_format: str, max_side: int) -> None:
    """Raises ValueError with one sentence for settings that data_url() can't work with."""
    if image_format not in FORMATS:
        raise ValueError(f"image_format is '{image_format}': it must be one of {', '.join(FORMATS)}.")
    if not MIN_SIDE <= max_side <= MAX_SIDE:
        raise ValueError(f"max_side is {max_side}: it must be from {MIN_SIDE} to {MAX_SIDE} pixels.")


def counted(reasons: Iterable[str], total: int) -> list[str]:
    """Why images of a batch of `total` got no score, the commonest first: each reason once, with a count."""
    found = Counter(reasons).most_common()
    return [f"{count} of {total} images: {reason}{'' if reason.endswith('.') else '.'}" for reason, count in found]
