"""Several processes as one trainer, through accelerate: who samples which prompts, and what they tell each other.

A run's result doesn't depend on their number but for rounding: prompts, noises and minibatches are those of one
process, and the gradient is the sum of everybody's terms. With one process nothing here does anything.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor

from . import sharding

Value = TypeVar("Value")


def leave(code: int) -> int:
    """The last thing that a process does: the exit code, unless it is one of several, which ends here.

    At the interpreter's own end torch's communication threads abort now and then, and the launcher takes that for the
    failure of a run that is whole on the disk.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


class Ranks:
    """The processes of a run; this one is number `index` of `count`."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.count, self.index = accelerator.num_processes, accelerator.process_index
        self.is_main = accelerator.is_main_process
        self.split = sharding.wanted()  # each holds only a share of the weights

    def share(self, count: int) -> range:
        """Which of `count` prompts or images are this process's: neighbours, as evenly as it goes."""
        return range(count * self.index // self.count, count * (self.index + 1) // self.count)

    def any(self, flag: bool) -> bool:
        """Whether it is true in any process; all get the same answer."""
        if self.count == 1:
            return flag
        return bool(self.summed(torch.tensor(float(flag), device=self.accelerator.device)))

    def main(self, value: Value) -> Value:
        """The main process's value, in all of them. It is pickled on the way: plain values only."""
        if self.count == 1:
            return value
        return broadcast_object_list([value])[0]

    def joined(self, items: Sequence[Value]) -> list[Value]:
        """Everybody's items in the order of the processes, in all of them."""
        return list(items) if self.count == 1 else gather_object(list(items))

    def joined_rows(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Everybody's rows of some CPU tensors in the order of the processes, in all of them."""
        if self.count == 1:
            return dict(tensors)
        parts = gather_object([dict(tensors)])
        return {name: torch.cat([part[name] for part in parts]) for name in tensors}

    def summed(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in all of them."""
        return tensor if self.count == 1 else self.accelerator.reduce(tensor, "sum")

    @property
    def loss_scale(self) -> int:
        """What losses are multiplied by, so that gradients come out as sums over the processes."""
        return self.count if self.split else 1

    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Each parameter's gradient becomes the sum over all processes, in one message.

        A parameter that has a gradient in no process keeps none, as with one process. Where the weights are split,
        the backward passes have made means over the processes already, of losses that loss_scale has made larger.
        """
        if self.count == 1 or self.split:
            return
        there = [parameter.grad is not None for parameter in parameters]
        grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        flags = torch.tensor(there, dtype=torch.float32, device=grads[0].device)
        message = self.summed(torch.cat([*(grad.flatten().float() for grad in grads), flags]))
        *summed, anywhere = message.split([*(grad.numel() for grad in grads), len(parameters)])
        for parameter, total, exists in zip(parameters, summed, anywhere.tolist(), strict=True):
            parameter.grad = total.view_as(parameter).to(parameter.dtype) if exists else None

    @torch.no_grad()
    def spread(self, parameters: Sequence[Tensor]) -> None:
        """Gives everybody the main process's values: they must begin, and so stay, the same."""
        if self.count == 1:
            return
        for parameter in parameters:
            own = parameter if self.is_main else torch.zeros_like(parameter)
            parameter.copy_(self.summed(own))

    def wait(self) -> None:
        """Until all processes are here."""
        self.accelerator.wait_for_everyone()
