"""What patch nodes upstream have hung onto a MODEL: what acts in training as in sampling, an allow-list.

Training calls the network itself, with its own sampler around it. A patch that sees single model calls can act there
as it does in sampling; one that lives in ComfyUI's sampler, keeps something from step to step, or holds on to the
shared network can't. A patch that isn't known here is refused by its name: others would train silently wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from ..comfy_types import Model
from . import gradients
from .frozen_copy import uncompiled

# What acts in training as in sampling.
OBJECTS = ("model_sampling", "manual_cast_dtype")  # object patches: ModelSampling nodes, ModelComputeDtype
DATA = ("rope_options",)  # of transformer_options: ScaleROPE
FUNCTIONS = {("nodes_model_advanced", "RescaleCFG")}  # files and classes of nodes; per image, by its own noise level

# What doesn't matter, with the reason that people are told; by name, or by file and class of the node.
_COMPILED = "The MODEL is compiled by torch.compile: the uncompiled network is trained. The LoRA fits both."
_CACHED = "EasyCache and LazyCache skip model calls in sampling: in training all of them are made."
_WINDOWS = "The MODEL's context windows don't act in training: its latents fit into one."
_ONE_DEVICE = "The MODEL is spread over several GPUs for sampling: training makes each model call on one."
_DROPPED: dict[Any, str] = {
    gradients.ATTENTION_OVERRIDE: "The MODEL brings an attention of its own, which may have no gradient: training uses "
    "PyTorch's for images and updates alike.",
    "torch.compile": _COMPILED,
    "torch_compile_kwargs": _COMPILED,
    "easycache": _CACHED,
    "lazycache": _CACHED,
    "ContextWindows_prepare_sampling": _WINDOWS,
    "ContextWindows_sampler_sample": _WINDOWS,
    "multigpu": _ONE_DEVICE,
    "multigpu_options": _ONE_DEVICE,
    "denoise_mask_function": "The MODEL's differential diffusion doesn't act in training: there is no mask.",
    "disable_cfg1_optimization": "",  # the negative prompt is computed at cfg 1 too, and then counts nothing
    # fp16 sums in matrix products, for the time of a sampling.
    ("model_optimization_nodes", "ModelPatchTorchSettings"): "The MODEL's PyTorch settings don't act in training.",
}
_UNET = {
    ("nodes_hypertile", "HyperTile"): "HyperTile",
    ("nodes_tomesd", "TomePatchModel"): "Token merging",
    ("nodes_model_downscale", "PatchModelAddDownscale"): "Kohya Deep Shrink",
}


def settled(model: Model, latents: Sequence[int] | None = None) -> tuple[Model, list[str]]:
    """(a clone of the MODEL that carries nothing but what acts in training, sentences on what was left out).

    latents: shape of one image's, for patches that go by it. Raises ValueError, naming all patches of the MODEL that
    can't act in training as they do in sampling.
    """
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    is_unet = isinstance(uncompiled(model.model.diffusion_model), UNetModel)
    dropped: list[str] = [_COMPILED] if any(map(_is_compiled, model.model.modules())) else []
    refused: list[str] = []
    for name, key, value in _found(model):
        origin = _origin(value)
        if key in DATA or origin in FUNCTIONS:
            continue
        if key == "context_handler" and not _cuts(value, latents):
            dropped.append(_WINDOWS)
        elif not is_unet and origin in _UNET:
            dropped.append(f"{_UNET[origin]} doesn't act in training: it is for UNets, and this network isn't one.")
        elif key in _DROPPED or origin in _DROPPED:
            dropped.append(_DROPPED.get(key, _DROPPED.get(origin, "")))
        else:
            refused.append(f"{name} ({origin[1]} of {origin[0]})" if origin else name)
    objects = {}
    for key, value in model.object_patches.items():
        if key in OBJECTS:
            objects[key] = value
        elif _is_compiled(value) and uncompiled(value) is uncompiled(_attribute(model.model, key)):
            dropped.append(_COMPILED)
        else:
            refused.append(f"a patch of {key}")
    if refused:
        raise ValueError(
            f"This MODEL carries what training can't make act as it does in sampling: {', '.join(refused)}. "
            "Connect the MODEL from before the node that adds it."
        )
    return _with_the_rest(model, objects), [reason for reason in dict.fromkeys(dropped) if reason]


def _found(model: Model) -> Iterator[tuple[str, str | None, Any]]:
    """(name for people, key, value) of everything but weight and object patches; of functions each by itself."""
    options = dict(model.model_options)
    transformer = dict(options.pop("transformer_options", {}))
    for key, value in options.items():
        for each in value if isinstance(value, list) else [value]:
            if not _is_off(each):
                yield key, key, each
    for kind in ("wrappers", "callbacks"):
        # Set on the MODEL, or by other nodes where the sampler puts them together.
        for registered in (getattr(model, kind, {}), transformer.pop(kind, {})):
            for call, by_key in registered.items():
                for key, functions in by_key.items():
                    for function in functions:
                        name = f" '{key}'" if key else ""
                        yield f"the {call} {kind.rstrip('s')}{name}", key, function
    for key, functions in transformer.pop("patches", {}).items():
        yield from ((key, key, function) for function in functions)
    for key, places in transformer.pop("patches_replace", {}).items():
        yield from ((f"{key} {place}", key, function) for place, function in places.items())
    yield from ((key, key, value) for key, value in transformer.items() if not _is_off(value))
    for kind in ("injections", "additional_models", "hook_patches", "weight_wrapper_patches"):
        for key in getattr(model, kind, None) or {}:
            yield f"{kind} '{key}'", key if isinstance(key, str) else kind, None


def _with_the_rest(model: Model, objects: dict[str, Any]) -> Model:
    """A clone with these object patches, the weight patches, and what _found leaves to act."""
    clone = model.clone()
    options = model.model_options
    transformer = options.get("transformer_options", {})
    clone.model_options = {
        "transformer_options": {key: transformer[key] for key in DATA if key in transformer}
        | gradients.attention_override(),
    }
    if "sampler_cfg_function" in options:
        clone.model_options["sampler_cfg_function"] = options["sampler_cfg_function"]
    clone.object_patches = objects
    for kind in ("wrappers", "callbacks", "additional_models"):
        setattr(clone, kind, {})
    return clone


def _origin(function: Any) -> tuple[str, str] | None:
    """(file, class) of the node that has made this function or object; None for plain data."""
    if isinstance(function, Tensor | str | int | float | dict | list | tuple | None):
        return None
    kind = function if hasattr(function, "__qualname__") else type(function)
    # ComfyUI names modules of nodes by their paths.
    return re.split(r"[./\\]", kind.__module__)[-1], kind.__qualname__.partition(".")[0]


def _is_off(value: Any) -> bool:
    return value is None or value is False or (isinstance(value, dict | list | tuple) and not value)


def _is_compiled(value: Any) -> bool:
    return uncompiled(value) is not value


def _cuts(handler: Any, latents: Sequence[int] | None) -> bool:
    """Whether a context handler would cut latents into windows; an unknown one is taken to do so."""
    dimension, length = getattr(handler, "dim", 0), getattr(handler, "context_length", 0)
    if dimension < 1:
        return True  # windows over the images of a batch
    return latents is not None and (dimension > len(latents) or latents[dimension - 1] > length)


def _attribute(model: Any, path: str) -> Any:
    import comfy.utils

    try:
        return comfy.utils.get_attr(model, path)
    except AttributeError:
        return None
