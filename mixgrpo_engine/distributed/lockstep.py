"""Model calls of several processes that hold one model's weights together."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from .ranks import Ranks

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule


class Lockstep:
    """A module whose calls need every process: each gives its share of the weights (sharding.py).

    Processes have different numbers of calls (of prompts, images with an advantage, held-out prompts). Whoever has
    made all of a phase's calls takes part in the others' by empty ones. With whole weights nothing here does anything.
    """

    def __init__(self, module: nn.Module, ranks: Ranks, spare: Callable[[], tuple]) -> None:
        """spare() gives the inputs of an empty call."""
        self.module, self.ranks, self.spare = module, ranks, spare

    def __call__(self, latents: Tensor, sigma: float | Tensor, condition: object) -> Tensor:
        if self.ranks.split:
            self.ranks.any(True)
        return self.module(latents, sigma, condition)

    def catch_up(self, backward: bool = False) -> None:
        """Ends a phase: returns once no process has a call left in it, and each holds no more than its share again.

        backward: whether each call of the phase has a backward pass, which needs every process as well.
        """
        if not self.ranks.split:
            return
        while self.ranks.any(False):
            with torch.set_grad_enabled(backward):
                velocity = self.module(*self.spare())
            if backward:
                velocity.backward(torch.zeros_like(velocity))
        # What is outside of the blocks stays together after a call without a backward pass, and the next call would
        # take it as it is, though a checkpoint or an average may have changed the shares meanwhile.
        cast("FSDPModule", self.module).reshard()
