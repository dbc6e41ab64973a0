"""A backward pass for the fused norms of newer ComfyUI's kernels (the package comfy-kitchen), which have none."""

from __future__ import annotations

import functools
import importlib
import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

NAMES = ("rms_rope", "rms_rope1", "rms_rope_split_half", "rms_rope_split_half1")
"""Norm and rotary embedding of queries and keys in one. Most models avoid them while training; Anima's and JoyImage's
don't."""


@functools.cache
def make_differentiable() -> None:
    """Of a comfy-kitchen that isn't there, or lacks some of them, nothing or less."""
    try:
        rope = importlib.import_module("comfy_kitchen.backends.eager.rope")
    except ImportError:
        return
    for name in NAMES:
        if hasattr(rope, name) and hasattr(torch.ops.comfy_kitchen, name):
            give_gradient(f"comfy_kitchen::{name}", getattr(rope, name))


def give_gradient(operator: str, reference: Callable[..., Any]) -> None:
    """Gives a registered operator the gradient of `reference`, which does the same in torch's own operators.

    Forward the operator stays what it is; the reference is only computed for the backward pass.
    """

    def keep(ctx: Any, inputs: tuple, output: Any) -> None:
        ctx.save_for_backward(*(value for value in inputs if isinstance(value, Tensor)))
        ctx.others = [None if isinstance(value, Tensor) else (value,) for value in inputs]

    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        saved = iter([tensor.detach().requires_grad_(tensor.requires_grad) for tensor in ctx.saved_tensors])
        inputs = [next(saved) if other is None else other[0] for other in ctx.others]
        asked = [isinstance(value, Tensor) and value.requires_grad for value in inputs]
        with torch.enable_grad():
            outputs = reference(*inputs)
        outputs = (outputs,) if isinstance(outputs, Tensor) else outputs
        found = iter(torch.autograd.grad(outputs, list(itertools.compress(inputs, asked)), gradients))
        return tuple(next(found) if each else None for each in asked)

    torch.library.register_autograd(operator, backward, setup_context=keep)
