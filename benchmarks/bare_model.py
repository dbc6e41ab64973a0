"""The model's own work in an iteration: the same calls again, with ready inputs and nothing around them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class BareCalls:
    """Writes down how a module is called, and can call it again in the same way.

    `calls`: (images, with gradient) of each call of the last recording, in order. A call with gradient is followed
    by its backward pass when it is repeated.
    """

    def __init__(self, module: nn.Module):
        """module: its first input and its output hold one row an image."""
        self.module = module
        self.calls: list[tuple[int, bool]] = []
        self._ready: dict[tuple[int, bool], tuple[tuple, dict]] = {}  # inputs of the first such call

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Inside it calls are written down; it forgets those of the time before."""
        self.calls = []
        hook = self.module.register_forward_pre_hook(self._note, with_kwargs=True)
        try:
            yield
        finally:
            hook.remove()

    def images(self, gradient: bool) -> int:
        """Image-forwards of the last recording, with or without gradient."""
        return sum(images for images, with_gradient in self.calls if with_gradient == gradient)

    def repeat(self) -> float:
        """Makes the recorded calls again, one after another; the seconds of processor time they took."""
        gradients = {call: torch.ones_like(args[0]) for call, (args, _) in self._ready.items() if call[1]}
        started = time.process_time()
        for call in self.calls:
            args, kwargs = self._ready[call]
            with torch.set_grad_enabled(call[1]):
                output = self.module(*args, **kwargs)
            if call[1]:
                output.backward(gradients[call])
            del output
        seconds = time.process_time() - started
        self.module.zero_grad(set_to_none=True)
        return seconds

    def _note(self, _module: nn.Module, args: tuple, kwargs: dict) -> None:
        call = (len(args[0]), torch.is_grad_enabled())
        self.calls.append(call)
        if call not in self._ready:
            self._ready[call] = (tuple(map(_copy, args)), {name: _copy(value) for name, value in kwargs.items()})


def _copy(value):
    """A copy of what the model might write into, or the caller after the call."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    return dict(value) if isinstance(value, dict) else value
