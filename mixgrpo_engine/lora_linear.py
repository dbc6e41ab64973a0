"""A linear layer with a LoRA that computes in the model's dtype and keeps nothing for the backward pass but its input.

peft's own casts each layer's input to the LoRA's float32 (query, key and value each do it), multiplies in float32 and
keeps the casts for the backward pass.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from peft.tuners.lora import Linear
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks


class LeanLinear(Linear):
    """peft's LoRA of a linear layer: its names, files and tools, with a forward of its own.

    The LoRA's weights stay what they are (float32), and are cast to the layer's dtype for each call. Rollout and update
    compute alike. Whatever of peft isn't the plain LoRA (dropout, DoRA, several at once, merged) is left to peft.
    """

    # Whether a quantised base layer's cast weight is made anew for the backward pass. Not worth it where blocks are
    # computed again anyway: there it lives as long as its block is at work.
    recasts = True

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """x: (..., in_features), of any floating dtype; (..., out_features) in the dtype of the base layer's output."""
        name = self._plain_adapter()
        if name is None or kwargs:
            return super().forward(x, *args, **kwargs)
        result = output_of_frozen(self.base_layer, x, *args) if self.recasts else self.base_layer(x, *args)
        down, up = (part[name].weight.to(result.dtype) for part in (self.lora_A, self.lora_B))
        hidden = nn.functional.linear(x.to(result.dtype), down)
        rows = result.reshape(-1, result.shape[-1]), hidden.reshape(-1, hidden.shape[-1])
        return torch.addmm(*rows, up.t(), alpha=self.scaling[name]).view(result.shape)

    def _plain_adapter(self) -> str | None:
        """The name of the one LoRA at work; None where peft's own forward is needed."""
        names = [name for name in self.active_adapters if name in self.lora_A]
        if self.disable_adapters or self.merged or len(names) != 1:
            return None
        name = names[0]
        special = name in self.lora_variant or self.lora_B[name].bias is not None
        return None if special or not isinstance(self.lora_dropout[name], nn.Identity) else name


def output_of_frozen(layer: nn.Linear, x: Tensor, *args: Any) -> Tensor:
    """layer(x) of a linear layer of any class.

    What it makes of a quantised weight for this call isn't kept for the backward pass, but made anew there. Such a
    layer casts its weight to x's dtype, or unpacks it, or fetches it from host memory. The gradient of x needs that
    tensor once more, and all layers' together are larger than a model that isn't quantised.
    """
    weight = layer.weight
    as_it_is = type(weight.data) is Tensor and weight.dtype == x.dtype and weight.device == x.device
    if as_it_is or not (torch.is_grad_enabled() and x.requires_grad):
        return layer(x, *args)

    # Autograd keeps both hooks as long as what they pack: they must not hold x.
    shape, dtype, device = (*[1] * (x.ndim - 1), layer.in_features), x.dtype, x.device
    own = _storage(x), _storage(weight)

    def made_of_weight(tensor: Tensor, others: tuple[int, int]) -> bool:
        return tensor.numel() == layer.in_features * layer.out_features and _storage(tensor) not in others

    def pack(tensor: Tensor) -> Tensor | _Remade:
        return _Remade(tensor.stride(), tensor.dtype) if made_of_weight(tensor, own) else tensor

    def unpack(saved: Tensor | _Remade) -> Tensor:
        if isinstance(saved, Tensor):
            return saved
        # Whatever kind of layer it is, it makes the same again for a single row.
        row = torch.zeros(shape, dtype=dtype, device=device, requires_grad=True)
        found: list[Tensor] = []
        others = _storage(row), _storage(weight)

        def keep(tensor: Tensor) -> Tensor:
            if made_of_weight(tensor, others):
                found.append(tensor)
            return tensor

        with torch.enable_grad(), saved_tensors_hooks(keep, lambda tensor: tensor):
            layer(row, *args)
        again = found[0].to(saved.dtype)
        return again if again.stride() == saved.stride else again.t()

    with saved_tensors_hooks(pack, unpack):
        return layer(x, *args)


class _Remade(NamedTuple):
    """In place of a saved tensor."""

    stride: tuple[int, ...]  # tells whether it lay transposed
    dtype: torch.dtype  # of its own under autocast


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
