"""Moving averages of the adapter's weights: of the policy that is evaluated and saved, and of the one that samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ..distributed.sharding import copy_into, gathered_in_main


def warm_up(updates: int) -> float:
    """The most weight that the past has in the first iterations, or the start would linger on."""
    return (1 + updates) / (10 + updates)


class AdapterAverage:
    """EMA of some parameters, updated once an iteration."""

    def __init__(self, parameters: Sequence[Tensor], decay: float, start: Callable[[int], float] = warm_up) -> None:
        """decay: weight of the past an iteration; start(number of the update, from 1): the most that it is by then."""
        self.parameters, self.decay, self.start = list(parameters), decay, start
        self.averages = [parameter.detach().clone() for parameter in self.parameters]
        self.updates = 0

    @torch.no_grad()
    def update(self) -> None:
        self.updates += 1
        decay = min(self.decay, self.start(self.updates))
        get_ema_multi_avg_fn(decay)(self.averages, [parameter.detach() for parameter in self.parameters], None)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside it the parameters hold their averages."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for parameter, average in zip(self.parameters, self.averages, strict=True):
            held = parameter.clone()
            parameter.copy_(average)
            average.copy_(held)

    def state(self) -> dict[str, Tensor]:
        """All of it as whole tensors, for a safetensors file; every process must call it, and the main one gets it."""
        state = {"updates": torch.tensor(self.updates)}
        for number, average in enumerate(self.averages):
            values = gathered_in_main(average)
            if values is not None:
                state[f"{number:05d}"] = values.contiguous()
        return state

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.updates = int(state["updates"])
        for number, average in enumerate(self.averages):
            copy_into(average, state[f"{number:05d}"])
