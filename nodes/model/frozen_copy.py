"""A private copy of a MODEL that can be trained, without touching the MODEL that others share."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from ...mixgrpo_engine import block_swap
from ...mixgrpo_engine.transfers import in_other_memory, with_attributes
from ..comfy_types import BaseModel, Model


def private_copy(patcher: Model, swapped_blocks: int = 0) -> BaseModel:
    """The patcher's BaseModel with its patches (LoRAs upstream, ModelSampling nodes) applied, on its load device.

    The structure is copied; the frozen weights' memory is shared where that is safe, so that a large model isn't held
    twice. Patches are applied to the copy, which goes to the device by itself: the shared MODEL stays where it is.
    swapped_blocks: how many blocks' weights (block_swap.py) aren't moved at all.
    """
    device: torch.device = patcher.load_device
    # Tensors made under inference mode can never take part in a gradient, so leave it if the caller is inside.
    with torch.inference_mode(False), torch.no_grad():
        _unload_all_but(patcher)
        own = patcher.clone()
        own.model = model = _copy(patcher)
        own.object_patches = copy.deepcopy(own.object_patches)
        own.backup, own.object_patches_backup, own.pinned = {}, {}, set()
        own.unpatch_model()  # what a loaded MODEL remembers of its loading
        own.backup = dict.fromkeys(own.patches)  # no weight is kept for a way back
        own.weight_inplace_update = False  # its memory is the shared MODEL's
        own.patch_model(torch.device("cpu") if swapped_blocks else device)
        model.requires_grad_(False)
        block_swap.move_the_rest(model, block_swap.chosen(model.diffusion_model, swapped_blocks), device)
    _use_differentiable_matmul(model)
    return model


def _unload_all_but(patcher: Model) -> None:
    """Makes room on the device. The patcher's MODEL may stay there, unless it is patched."""
    import comfy.model_management as management

    own = [loaded for loaded in management.current_loaded_models if _is_unpatched(loaded.model, patcher.model)]
    management.free_memory(1e30, patcher.load_device, keep_loaded=own)


def _is_unpatched(loaded: Model | None, model: BaseModel) -> bool:
    return loaded is not None and loaded.model is model and not (loaded.backup or loaded.object_patches_backup)


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
    if "manual_cast_dtype" in patcher.object_patches:  # of ModelComputeDtype
        copied.manual_cast_dtype = patcher.object_patches["manual_cast_dtype"]
    if getattr(patcher, "force_cast_weights", False):
        for layer in copied.modules():
            if hasattr(layer, "comfy_cast_weights"):
                layer.comfy_cast_weights = True
    _use_differentiable_matmul(copied)
    return copied


def uncompiled(part: Any) -> Any:
    """What torch.compile was given to make this; anything else as it is."""
    return getattr(part, "_orig_mod", part)


def _shape_of(tensor: Tensor) -> Tensor:
    return with_attributes(torch.empty_like(tensor.detach(), device="meta"), tensor)


def _copy(patcher: Model) -> BaseModel:
    model = patcher.model
    # Patches written in place change a weight's memory under every holder of it.
    shareable = not patcher.weight_inplace_update
    memo = {
        id(model.model_config): model.model_config,  # not copyable in newer ComfyUI, and never changed
        id(model.current_patcher): None,  # would drag the patcher and all it holds along
    }

    def alias(memory: Tensor) -> Tensor:
        return memory.clone() if memory.is_inference() else memory

    for parameter in model.parameters():
        memo[id(parameter)] = in_other_memory(parameter, alias if shareable else Tensor.clone)
    for buffer in model.buffers():
        memo[id(buffer)] = buffer.detach().clone()
    return _deepcopy(model, memo)


def _deepcopy(model: BaseModel, memo: dict[int, Any]) -> BaseModel:
    """A copy without compiled parts: their code would go on using the shared network."""
    for part in reversed(list(model.modules())):  # inner ones first
        if uncompiled(part) is not part:
            memo[id(part)] = copy.deepcopy(uncompiled(part), memo)
    return copy.deepcopy(model, memo)


def _use_differentiable_matmul(model: BaseModel) -> None:
    """Quantised layers multiply without quantising their input: that has no gradient."""
    for layer in model.modules():
        if hasattr(layer, "_full_precision_mm"):
            layer._full_precision_mm = True
        elif isinstance(layer, nn.Linear):
            layer.train()  # ComfyUI's fp8 layers take their fast path, which has no gradient, only in eval mode
