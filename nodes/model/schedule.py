"""A MODEL's own noise levels, and Flash's re-spacing of them."""

from __future__ import annotations

import torch
from torch import Tensor

from ...mixgrpo_engine.schedule import diffusers_sigmas, flash_sigmas, flow_sigmas
from ..comfy_types import ModelSampling


def model_sigmas(model_sampling: ModelSampling, steps: int, shift: float = 0.0) -> Tensor:
    """float32 (steps + 1,), from 1 to 0. shift 0 means the model's own; FLUX's mu is log(shift)."""
    if shift > 0:
        return flow_sigmas(steps, shift)
    return torch.tensor([float(model_sampling.percent_to_sigma(k / steps)) for k in range(steps + 1)])


def model_shift(model_sampling: ModelSampling) -> float:
    """The model's own time shift s, as in sigma = s * t / (1 + (s - 1) * t)."""
    middle = float(model_sampling.percent_to_sigma(0.5))
    return middle / (1 - middle)


def window_sigmas(
    model_sampling: ModelSampling, steps: int, shift: float, window: range, flash_ratio: float, spacing: str = "uniform"
) -> Tensor:
    """The noise levels of a rollout with this window, for flash_ratio < 1 re-spaced after the window.

    Returns float32, from 1 to 0. Raises ValueError when the window doesn't end before the last step.
    """
    own = shift if shift > 0 else model_shift(model_sampling)
    even = spacing == "uniform"
    sigmas = model_sigmas(model_sampling, steps, shift) if even else diffusers_sigmas(steps, own)
    if flash_ratio >= 1:
        return sigmas
    check_window(window, steps)
    return flash_sigmas(sigmas, window, flash_ratio, own)


def check_window(window: range, steps: int) -> None:
    """Raises ValueError when the window doesn't end before the last step."""
    if not 0 <= window.start <= window.stop < steps:
        raise ValueError(
            f"The window {window.start}..{window.stop} doesn't fit {steps} steps: "
            "lower window_start or the window's size so that it ends before the last step."
        )
