"""Seeds for every random draw of a run, as pure functions of what the draw is for: a resume needs no state."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch


def derive(seed: int, *purpose: object) -> int:
    """A 63-bit seed for one purpose, e.g. derive(seed, "noise", iteration, prompt)."""
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: object) -> torch.Generator:
    """A CPU generator for one purpose; drawing on the CPU makes the numbers the same on every device."""
    return torch.Generator().manual_seed(derive(seed, *purpose))


def start_seeds(seed: int, iteration: int, starts: Iterable[int]) -> list[int]:
    """Of the noises that an iteration's images start from: one a prompt where a group shares it, else one an image."""
    return [derive(seed, "noise", iteration, start) for start in starts]


def window_generators(seed: int, iteration: int, images: Iterable[int]) -> list[torch.Generator]:
    """Of the noise inside the window, one an image."""
    return [generator(seed, "window", iteration, image) for image in images]
