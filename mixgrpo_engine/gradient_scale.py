"""Gradients through a network that computes in float16: scaled by powers of two on the way, exact afterwards."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

# log2 of what the largest value of the output's gradient becomes. float16 holds 2^-24 to 2^16: the gradients inside a
# network are mostly smaller than at its output, so there is more room below than above.
TARGET = 6
LOWER_BY = 4
LOWEST = -18


class GradientScale:
    """The loss is a mean over all latent values and images, so its gradient at the network's output is about 1e-8: in
    float16 that is 0. Each backward pass multiplies it by a power of two of its own, and the parameters' gradients,
    which are float32, are divided by the same power: nothing but float16's range is changed.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        """parameters: the trained ones, float32."""
        self.target = TARGET
        self._factor: Tensor | None = None
        for parameter in parameters:
            parameter.register_hook(self._unscaled)

    def applied(self, output: Tensor) -> Tensor:
        """The network's output, through which gradients go in scaled; float32."""
        if output.requires_grad:
            output.register_hook(self._scaled)
        return output

    def lower(self) -> bool:
        """After gradients that weren't finite: the next are scaled to less. False when that makes no sense any more."""
        if self.target <= LOWEST:
            return False
        self.target -= LOWER_BY
        return True

    def _scaled(self, gradient: Tensor) -> Tensor:
        largest = gradient.abs().amax()
        # On the device, without waiting for it.
        factor = torch.exp2(self.target - torch.ceil(torch.log2(largest)))
        self._factor = torch.where(factor.isfinite() & (largest > 0), factor, torch.ones_like(factor))
        return gradient * self._factor

    def _unscaled(self, gradient: Tensor) -> Tensor:
        return gradient if self._factor is None else gradient / self._factor
