"""Noise levels of the denoising steps. sigma = 1 is pure noise, sigma = 0 the image."""

from __future__ import annotations

import math

import torch
from torch import Tensor

SPACINGS = ("uniform", "diffusers")


def flow_sigmas(steps: int, shift: float = 3.0) -> Tensor:
    """Rectified flow's uniform noise levels with the time shift s: sigma <- s*sigma / (1 + (s-1)*sigma).

    Returns float32 (steps + 1,), from 1 to 0.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}: at least 1 is needed.")
    return shift_sigmas(torch.linspace(1, 0, steps + 1, dtype=torch.float64), shift).float()


def diffusers_sigmas(steps: int, shift: float = 3.0) -> Tensor:
    """The noise levels that a diffusers pipeline of SD3 takes, and Flow-GRPO with it; ComfyUI calls them "normal".

    The times are even from 1 to the lowest of 1000 training levels, which has been shifted already, and are shifted
    again: the last step but one goes nearly to 0 (.278 to .0089 for 10 steps), the last one the rest.
    Returns float32 (steps + 1,), from 1 to 0.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}: at least 1 is needed.")
    lowest = float(shift_sigmas(torch.tensor(0.001, dtype=torch.float64), shift))
    sigmas = shift_sigmas(torch.linspace(1, lowest, steps, dtype=torch.float64), shift)
    return torch.cat([sigmas, torch.zeros(1)]).float()


def shift_sigmas(sigmas: Tensor, shift: float) -> Tensor:
    """The time shift of Stable Diffusion 3 and FLUX; shift 1 changes nothing."""
    if not shift > 0:
        raise ValueError(f"shift is {shift}: it must be above 0.")
    return shift * sigmas / (1 + (shift - 1) * sigmas)


def unshift_sigmas(sigmas: Tensor, shift: float) -> Tensor:
    """The reverse of shift_sigmas: back to uniform time."""
    return shift_sigmas(sigmas, 1 / shift)


def flash_steps(remaining: int, ratio: float) -> int:
    """How many steps Flash leaves of those after the window: max(1, floor(remaining * ratio)); 0 stays 0.

    Rounding down gives the paper's published calls a rollout: 16 on average for Flash, 8 for Flash*.
    """
    if not 0 < ratio <= 1:
        raise ValueError(f"ratio is {ratio}: it must be above 0 and at most 1.")
    # A ratio like 0.58 isn't exact in binary: without the margin 50 * 0.58 would round down to 28.
    return max(1, math.floor(remaining * ratio + 1e-9)) if remaining else 0


def flash_sigmas(sigmas: Tensor, window: range, ratio: float, shift: float = 3.0) -> Tensor:
    """MixGRPO-Flash's schedule: as given up to the window's end, re-spaced after it.

    The steps after the window become flash_steps(...) ones, evenly spaced in the time before the shift and then
    shifted, as flow_sigmas does; the last value is exactly 0 (arXiv 2507.21802, section 3.3).
    sigmas: (steps + 1,). Returns float32 (window.stop + n + 1,).
    """
    kept = sigmas[: window.stop + 1].float()
    count = flash_steps(len(sigmas) - 1 - window.stop, ratio)
    if not count:
        return kept
    start = unshift_sigmas(kept[-1].double(), shift)
    tail = shift_sigmas(torch.linspace(1, 0, count + 1, dtype=torch.float64) * start, shift)
    return torch.cat([kept, tail[1:].float()])
