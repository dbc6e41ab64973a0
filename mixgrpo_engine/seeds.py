"""Seeds for every random draw of a run, as pure functions of what the draw is for: a resume needs no state."""

from __future__ import annotations

import hashlib

import torch


def derive(seed: int, *purpose: object) -> int:
    """A 63-bit seed for one purpose, e.g. derive(seed, "noise", iteration, prompt)."""
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: object) -> torch.Generator:
    """A CPU generator for one purpose; drawing on the CPU makes the numbers the same on every device."""
    return torch.Generator().manual_seed(derive(seed, *purpose))
