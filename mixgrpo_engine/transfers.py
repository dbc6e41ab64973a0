"""Tensors on their way to a device."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass, transform_subclass

AnyTensor = TypeVar("AnyTensor", bound=Tensor)

# There a copy that doesn't block is taken from memory that may be of another tensor by then, or isn't finished.
_BLOCKING = ("cpu", "mps", "xpu")


def needs_no_wait(device: torch.device) -> bool:
    """Whether it is safe to go on while a copy to that device is under way."""
    return device.type not in _BLOCKING


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on that device, without waiting until the device has done its work, where that is safe."""
    return tensor.to(device, non_blocking=needs_no_wait(device))


def in_other_memory(tensor: Tensor, memory: Callable[[Tensor], Tensor]) -> nn.Parameter:
    """A frozen parameter of the tensor's kind, with its attributes, in what memory(plain tensor) gives.

    For quantised tensors, too: those that consist of several plain ones, and those with attributes.
    """
    if is_traceable_wrapper_subclass(tensor):
        new = transform_subclass(tensor, lambda _, part: memory(part))
    else:
        new = memory(plain(tensor))
        if type(tensor) not in (Tensor, nn.Parameter):
            new = new.as_subclass(type(tensor))
    return with_attributes(nn.Parameter(new, requires_grad=False), tensor)


def plain(tensor: Tensor) -> Tensor:
    """The same memory as an ordinary tensor: those of the GGUF pack give themselves back by detach() and clone()."""
    return tensor.detach().as_subclass(Tensor).detach()


def with_attributes(new: AnyTensor, old: Tensor) -> AnyTensor:
    """Gives a tensor what others have hung onto the old one: how it is quantised, LoRAs that act when it is used."""
    for name, value in vars(old).items():
        if name not in vars(new):
            # A list of its own: a patcher that unloads the shared MODEL empties it.
            setattr(new, name, list(value) if isinstance(value, list) else value)
    return new
