"""Rewards: `score(images, prompts)` gives one float an image. Each scorer is a module of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Reward(Protocol):
    """One scorer.

    It may have more: `strict(images, prompts)` -> 1.0 right, 0.0 wrong, NaN unknown; and `failures`, a list of
    sentences that say why the last call of score() gave NaN.
    """

    name: str

    def score(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """images: float (batch, height, width, 3) in 0..1; prompts: one an image.

        Returns float32 (batch,), higher is better; NaN means that this image could not be scored.
        """
        ...


def failures(reward: Reward) -> list[str]:
    """Why the reward's last call gave NaN, one sentence each; empty when it doesn't say."""
    return list(getattr(reward, "failures", ()))


def check_batch(images: Tensor, prompts: Sequence[str]) -> None:
    """Raises ValueError unless images are (batch, height, width, 3) with one prompt an image."""
    if images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(f"images must be (batch, height, width, 3), not {tuple(images.shape)}")
    if len(images) != len(prompts):
        raise ValueError(f"{len(images)} images, but {len(prompts)} prompts")
