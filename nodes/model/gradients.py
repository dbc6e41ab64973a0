"""What ComfyUI's model code needs before gradients through it are right.

Several families (FLUX first of all) add to the residual stream in place, after a norm has saved it for the backward
pass. Without checkpointing autograd notices; with it the recomputed activations are silently wrong.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from ...mixgrpo_engine.lora import blocks_of
from ..comfy_types import Network
from . import fused_norms

_STREAM_DIMENSIONS = 3  # (batch, tokens, channels); norms of queries and keys see four

ATTENTION_OVERRIDE = "optimized_attention_override"  # key of transformer_options


def enable_training_mode() -> None:
    """Tells newer ComfyUI to take code paths that have a gradient, in this whole process."""
    import comfy.model_management as management

    if hasattr(management, "in_training"):
        management.in_training = True
    fused_norms.make_differentiable()


def prepare(diffusion_model: Network, checkpointing: bool, verify: bool = True) -> None:
    """Makes the model's in-place updates harmless, and checkpoints each transformer block if asked to.

    verify: each kind of block is checked at its first call, which takes memory of its own.
    """
    for layer in diffusion_model.modules():
        if "Norm" in type(layer).__name__:
            layer.register_forward_pre_hook(_keep_input)
        if hasattr(layer, "recasts"):
            layer.recasts = not checkpointing
    blocks = blocks_of(diffusion_model)
    if checkpointing and not blocks:
        raise ValueError(
            f"Gradient checkpointing doesn't know the blocks of {type(diffusion_model).__name__}: turn it off."
        )
    verified: set[type] = set() if verify else {type(block) for block in blocks}
    for block in blocks:
        block.forward = _VerifiedBlock(block, checkpointing, verified)


def attention_override() -> dict[str, Any]:
    """transformer_options that replace any attention by PyTorch's, on every device.

    Others have no gradient (SageAttention, Flash, int8), or go through the sequence in parts whose size follows the
    free memory of the moment: a block that is computed again for its gradient must be computed as before.
    """
    from comfy.ldm.modules import attention

    def pytorch_attention(_function: object, *args: Any, **kwargs: Any) -> Tensor:
        return attention.attention_pytorch(*args, **kwargs)

    return {ATTENTION_OVERRIDE: pytorch_attention}


def _keep_input(_layer: nn.Module, args: tuple) -> tuple | None:
    stream = args[0] if args else None
    if not (torch.is_grad_enabled() and isinstance(stream, Tensor) and stream.requires_grad):
        return None
    return (stream.clone(), *args[1:]) if stream.ndim == _STREAM_DIMENSIONS else None


class _VerifiedBlock:
    """A block's forward, verified; with checkpointing it keeps only the inputs and computes all else again backward."""

    def __init__(self, block: nn.Module, checkpointing: bool, verified: set[type]) -> None:
        self.kind = type(block)
        self.checkpointing = checkpointing
        self.forward = block.forward
        self.verified = verified  # block classes already checked, shared by all blocks of a model

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return self.forward(*args, **kwargs)
        if self.kind not in self.verified:
            self._verify(args, kwargs)
        if not self.checkpointing:
            return self.forward(*args, **kwargs)
        if "transformer_options" in kwargs:
            # The model goes on writing into it (block_index); the recomputation must see what this call sees.
            kwargs["transformer_options"] = dict(kwargs["transformer_options"])
        return checkpoint(self._on_copies, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)

    def _on_copies(self, *args: Any, **kwargs: Any) -> Any:
        """The block on copies of its inputs: it may change them, and the recomputation starts from them."""
        return self.forward(*map(_copy, args), **{name: _copy(value) for name, value in kwargs.items()})

    def _verify(self, args: tuple, kwargs: dict) -> None:
        """Raises RuntimeError if a block of this class changes a tensor in place that its backward pass needs."""
        saved: list[tuple[Tensor, int]] = []

        def pack(tensor: Tensor) -> Tensor:
            saved.append((tensor, tensor._version))
            return tensor

        with saved_tensors_hooks(pack, lambda tensor: tensor):
            self._on_copies(*map(_leaf, args), **{name: _leaf(value) for name, value in kwargs.items()})
        if any(tensor._version != version for tensor, version in saved):
            raise RuntimeError(
                f"{self.kind.__name__} changes tensors in place that its gradient needs: this model can't be trained."
            )
        self.verified.add(self.kind)


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _leaf(value: Any) -> Any:
    """A detached stand-in that requires a gradient, as a later block's inputs do."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.detach().requires_grad_(True)
    return value
