"""Higher-order ODE solvers for the steps after the window (MixGRPO-Flash)."""

from __future__ import annotations

import math

from torch import Tensor

VARIANTS = ("midpoint", "heun")


class DPMSolverPP:
    """DPM-Solver++ multistep (arXiv 2211.01095) for rectified flow: lambda = log((1 - sigma) / sigma).

    order 1 is the exponential Euler step, which equals `transitions.euler` on a flow; order 2 exists in the variants
    "midpoint" and "heun"; order 3 has one form. The first steps after a reset and the one to sigma 0 fall back to the
    order that their history allows. Only steps of one and the same deterministic trajectory may follow each other:
    call reset() where noise was drawn.
    """

    def __init__(self, order: int = 2, variant: str = "midpoint") -> None:
        if order not in (1, 2, 3):
            raise ValueError(f"order is {order}: choose 1, 2 or 3.")
        if variant not in VARIANTS:
            raise ValueError(f"variant is '{variant}': choose {' or '.join(VARIANTS)}.")
        self.order = order
        self.variant = variant
        self.reset()

    def reset(self) -> None:
        """Forgets the trajectory so far."""
        self._history: list[tuple[Tensor, float]] = []  # (denoised, lambda), newest first

    def step(self, latents: Tensor, velocity: Tensor, sigma: float, sigma_next: float) -> Tensor:
        """The latents at sigma_next, float32, same shape. 1 >= sigma > sigma_next >= 0."""
        sigma, sigma_next = float(sigma), float(sigma_next)
        x = latents.float()
        denoised = x - sigma * velocity.float()
        if sigma_next == 0:
            return denoised
        lam, lam_next = _log_snr(sigma), _log_snr(sigma_next)
        h = lam_next - lam
        decay = math.expm1(-h)  # e^-h - 1
        alpha = 1 - sigma_next
        result = (sigma_next / sigma) * x - (alpha * decay) * denoised
        order = min(self.order, len(self._history) + 1)
        if order > 1:
            (older, lam_older) = self._history[0]
            r0 = (lam - lam_older) / h
            slope = (denoised - older) / r0
            if order == 2 and self.variant == "midpoint":
                result = result - (0.5 * alpha * decay) * slope
            else:
                if order == 3:
                    (oldest, lam_oldest) = self._history[1]
                    r1 = (lam_older - lam_oldest) / h
                    change = slope - (older - oldest) / r1
                    slope = slope + (r0 / (r0 + r1)) * change
                    curvature = change / (r0 + r1)
                    result = result - (alpha * ((decay + h) / h**2 - 0.5)) * curvature
                result = result + (alpha * (decay / h + 1)) * slope
        if math.isfinite(lam):  # at sigma = 1 the step has infinite length in lambda: it says nothing of a slope
            self._history = [(denoised, lam), *self._history][: self.order - 1]
        return result


def _log_snr(sigma: float) -> float:
    return math.log((1 - sigma) / sigma) if sigma < 1 else -math.inf


def dpm_tail(order: int, variant: str = "midpoint") -> DPMSolverPP | None:
    """The tail solver of an order; None (plain Euler) for order 1."""
    return DPMSolverPP(order, variant) if order > 1 else None
