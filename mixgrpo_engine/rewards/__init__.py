"""Rewards: `score(images, prompts)` gives one float an image. Each scorer is a module of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Reward(Protocol):
    """One scorer. A scorer may also have `strict(images, prompts)`: 1.0 right, 0.0 wrong, NaN unknown."""

    name: str

    def score(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """images: float (batch, height, width, 3) in 0..1; prompts: one an image.

        Returns float32 (batch,), higher is better; NaN means that this image could not be scored.
        """
        ...
