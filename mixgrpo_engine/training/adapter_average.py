"""A moving average of the adapter's weights: the policy that is evaluated and saved, while the last one samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ..distributed.sharding import copy_into, gathered_in_main


class AdapterAverage:
    """EMA of some parameters, updated once an iteration."""

    def __init__(self, parameters: Sequence[Tensor], decay: float) -> None:
        """decay: weight of the past an iteration; the first iterations count more, or the start would linger on."""
        self.parameters, self.decay = list(parameters), decay
        self.averages = [parameter.detach().clone() for parameter in self.parameters]
        self.updates = 0

    @torch.no_grad()
    def update(self) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
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
