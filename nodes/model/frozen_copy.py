"""A private copy of a MODEL that can be trained, without touching the MODEL that others share."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from ..comfy_types import BaseModel, Model


def private_copy(patcher: Model) -> BaseModel:
    """The patcher's BaseModel with its patches (LoRAs upstream, ModelSampling nodes) applied, on its load device.

    The structure is copied; the frozen weights' memory is shared where that is safe, so that a large model isn't held
    twice. The shared MODEL is left unloaded and unpatched, as ComfyUI leaves a model that it has freed.
    """
    import comfy.model_management as management

    patcher = patcher.clone()
    # Tensors made under inference mode can never take part in a gradient, so leave it if the caller is inside.
    with torch.inference_mode(False), torch.no_grad():
        management.load_models_gpu([patcher], force_full_load=True)
        try:
            model = _copy(patcher)
        finally:
            # The copy keeps the patched weights alive; the shared model goes back to what it was.
            management.free_memory(1e30, patcher.load_device)
        model.to(patcher.load_device)
    model.requires_grad_(False)
    _use_differentiable_matmul(model)
    return model


def weightless_copy(patcher: Model) -> BaseModel:
    """The patcher's BaseModel without data, on the device "meta": it computes shapes, and needs no memory."""
    model = patcher.model
    memo = {id(model.model_config): model.model_config, id(model.current_patcher): None}
    with torch.inference_mode(False):
        for parameter in model.parameters():
            memo[id(parameter)] = nn.Parameter(_shape_of(parameter), requires_grad=False)
        for buffer in model.buffers():
            memo[id(buffer)] = _shape_of(buffer)
        copied = _deepcopy(model, memo)
    _use_differentiable_matmul(copied)
    return copied


def uncompiled(part: Any) -> Any:
    """What torch.compile was given to make this; anything else as it is."""
    return getattr(part, "_orig_mod", part)


def _shape_of(tensor: Tensor) -> Tensor:
    return _with_attributes(torch.empty_like(tensor.detach(), device="meta"), tensor)


def _copy(patcher: Model) -> BaseModel:
    model = patcher.model
    # Patches written in place change a weight's memory under every holder of it.
    shareable = not patcher.weight_inplace_update
    memo = {
        id(model.model_config): model.model_config,  # not copyable in newer ComfyUI, and never changed
        id(model.current_patcher): None,  # would drag the patcher and all it holds along
    }
    for parameter in model.parameters():
        memo[id(parameter)] = nn.Parameter(_alias(parameter, shareable), requires_grad=False)
    for buffer in model.buffers():
        memo[id(buffer)] = _alias(buffer, shareable=False)
    return _deepcopy(model, memo)


def _deepcopy(model: BaseModel, memo: dict[int, Any]) -> BaseModel:
    """A copy without compiled parts: their code would go on using the shared network."""
    for part in reversed(list(model.modules())):  # inner ones first
        if uncompiled(part) is not part:
            memo[id(part)] = copy.deepcopy(uncompiled(part), memo)
    return copy.deepcopy(model, memo)


def _alias(tensor: Tensor, shareable: bool) -> Tensor:
    shared = shareable and not tensor.is_inference()
    alias = tensor.detach()
    if alias is tensor:  # tensors of the GGUF pack give themselves back, and clones too
        alias = tensor.as_subclass(Tensor).detach()
        return _with_attributes((alias if shared else alias.clone()).as_subclass(type(tensor)), tensor)
    return _with_attributes(alias if shared else alias.clone(), tensor)


def _with_attributes(new: Tensor, old: Tensor) -> Tensor:
    """Gives a tensor what others have hung onto the old one: how it is quantised, LoRAs that act when it is used."""
    for name, value in vars(old).items():
        if name not in vars(new):
            # A list of its own: a patcher that unloads the shared MODEL empties it.
            setattr(new, name, list(value) if isinstance(value, list) else value)
    return new


def _use_differentiable_matmul(model: BaseModel) -> None:
    """Quantised layers multiply without quantising their input: that has no gradient."""
    for layer in model.modules():
        if hasattr(layer, "_full_precision_mm"):
            layer._full_precision_mm = True
        elif isinstance(layer, nn.Linear):
            layer.train()  # ComfyUI's fp8 layers take their fast path, which has no gradient, only in eval mode
