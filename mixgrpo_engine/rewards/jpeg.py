"""JPEG size as a reward: a known answer without any model, and the usual first check of a training."""

from __future__ import annotations

import io
from collections.abc import Sequence

import torch
from torch import Tensor

from . import check_batch
from .pictures import NOT_FINITE, counted, picture

COMPRESSIBILITY, INCOMPRESSIBILITY = KINDS = ("compressibility", "incompressibility")


class JpegReward:
    """The size of the image as a JPEG file, as in DDPO (arXiv 2305.13301, section 5.1). Prompts are ignored.

    "incompressibility": the size in kB (1000 bytes), which detail and noise raise. "compressibility": minus that,
    which plain areas raise.
    """

    def __init__(self, kind: str = COMPRESSIBILITY, quality: int = 95) -> None:
        """quality: of the JPEG, 1 to 95. Raises ValueError for other values."""
        if kind not in KINDS:
            raise ValueError(f"kind is '{kind}': it must be one of {', '.join(KINDS)}.")
        if not 1 <= quality <= 95:
            raise ValueError(f"quality is {quality}: it must be from 1 to 95.")
        self.name, self.quality = kind, quality
        self.failures: list[str] = []

    def score(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """float32 (batch,) in kB; NaN for an image that isn't finite. Raises ValueError for a wrong shape."""
        check_batch(images, prompts)
        sign = -1.0 if self.name == COMPRESSIBILITY else 1.0
        scores = torch.tensor([sign * self._kilobytes(image) for image in images], dtype=torch.float32)
        self.failures = counted([NOT_FINITE] * int(scores.isnan().sum()), len(images))
        return scores

    def _kilobytes(self, image: Tensor) -> float:
        shown = picture(image)
        if shown is None:
            return float("nan")
        file = io.BytesIO()
        shown.save(file, format="JPEG", quality=self.quality)
        return len(file.getvalue()) / 1000
