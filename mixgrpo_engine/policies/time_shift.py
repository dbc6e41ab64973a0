"""The time shift that a diffusers scheduler's settings ask for."""

from __future__ import annotations

import math
from collections.abc import Mapping

PATCH = 16  # pixels a side of an image token, in FLUX.1 and SD3


def image_tokens(width: int, height: int) -> int:
    """width, height: pixels."""
    return (width // PATCH) * (height // PATCH)


def time_shift(scheduler: Mapping, tokens: int) -> float:
    """s of sigma = s * t / (1 + (s - 1) * t), for an image of so many tokens.

    scheduler: settings of a FlowMatchEulerDiscreteScheduler; those that are missing have diffusers' defaults. A dynamic
    shift (FLUX.1 [dev]) grows with the image: mu is a line through (base_image_seq_len, base_shift) and
    (max_image_seq_len, max_shift), and s is exp(mu), or mu itself where time_shift_type is "linear".
    """
    if not scheduler.get("use_dynamic_shifting", False):
        return float(scheduler.get("shift", 1.0))
    base, largest = scheduler.get("base_image_seq_len", 256), scheduler.get("max_image_seq_len", 4096)
    low, high = scheduler.get("base_shift", 0.5), scheduler.get("max_shift", 1.15)
    mu = low + (high - low) / (largest - base) * (tokens - base)
    return math.exp(mu) if scheduler.get("time_shift_type", "exponential") == "exponential" else mu
