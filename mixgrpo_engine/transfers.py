"""Tensors on their way to a device."""

from __future__ import annotations

import torch
from torch import Tensor

# There a copy that doesn't block is taken from memory that may be of another tensor by then, or isn't finished.
_BLOCKING = ("cpu", "mps", "xpu")


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on that device, without waiting until the device has done its work, where that is safe."""
    return tensor.to(device, non_blocking=device.type not in _BLOCKING)
