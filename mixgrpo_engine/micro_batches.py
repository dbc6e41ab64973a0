"""Model calls in micro-batches, so that memory is bounded by a setting and not by the size of an iteration."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .policy import Condition


class BatchedVelocity:
    """velocity(latents, sigma) of a module, `batch_size` images a call (0: all at once).

    Row i of the latents has the prompt of row i // (rows / prompts) of the condition: the rows are the prompts
    themselves, or whole groups of them. before_call(sigma) is called before each model call.
    """

    def __init__(
        self,
        module: Callable[[Tensor, float, Condition], Tensor],
        condition: Condition,
        batch_size: int,
        before_call: Callable[[float], None] = lambda sigma: None,
    ):
        self.module, self.condition, self.batch_size, self.before_call = module, condition, batch_size, before_call
        self._plans: dict[int, list[tuple[slice, Condition]]] = {}

    def __call__(self, latents: Tensor, sigma: float) -> Tensor:
        parts = []
        for rows, prompts in self._plan(len(latents)):
            self.before_call(sigma)
            parts.append(self.module(latents[rows], sigma, prompts))
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _plan(self, count: int) -> list[tuple[slice, Condition]]:
        """Rows and prompts of each call; made once, since every step of a rollout asks for the same."""
        if count not in self._plans:
            repeats, size = count // len(self.condition), self.batch_size or count
            self._plans[count] = [
                (
                    slice(start, min(start + size, count)),
                    self.condition.select([row // repeats for row in range(start, min(start + size, count))]),
                )
                for start in range(0, count, size)
            ]
        return self._plans[count]
