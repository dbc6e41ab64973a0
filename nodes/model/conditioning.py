"""Prompts through ComfyUI's CLIP object, and a file format for their encodings."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from ...mixgrpo_engine.encoded_texts import EncodedTexts, digest
from ...mixgrpo_engine.records import tensor_files
from ..comfy_types import Clip, Conditioning
from .cut_prompts import CutPrompts

_STRUCTURE = "mixgrpo_conditioning"  # the metadata entry that says which tensor belongs where


@dataclass(frozen=True)
class ItemInputs:
    """What an item's own nodes have made. latent: (1, ...), None where it is empty; latent_shape: () without any."""

    positive: Conditioning
    negative: Conditioning | None = None
    latent: Tensor | None = None
    latent_shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Encoded:
    """Encoded prompts. `conditionings` maps a prompt to what CLIPTextEncode gives: [[tokens, {key: value}], ...]."""

    conditionings: dict[str, Conditioning | ItemInputs]
    # Prompt -> text encoders that read only its beginning, as far as that was looked for.
    cut: dict[str, list[str]] = field(default_factory=dict)
    encoders: list[str] = field(default_factory=list)  # that were looked at

    def __getitem__(self, prompt: str) -> Conditioning:
        if prompt not in self.conditionings:
            raise KeyError(not_encoded(prompt))
        made = self.conditionings[prompt]
        return made.positive if isinstance(made, ItemInputs) else made

    def of_item(self, prompt: str) -> ItemInputs | None:
        """What an item's own nodes have made; None of a prompt that a text encoder has read."""
        made = self.conditionings.get(prompt)
        return made if isinstance(made, ItemInputs) else None

    def latent_shapes(self) -> dict[str, tuple[int, ...]]:
        """Item -> ItemInputs.latent_shape."""
        return {name: made.latent_shape for name, made in self.conditionings.items() if isinstance(made, ItemInputs)}

    @property
    def of_items(self) -> bool:
        return any(isinstance(made, ItemInputs) for made in self.conditionings.values())

    @property
    def prompts(self) -> list[str]:
        return list(self.conditionings)

    def __contains__(self, prompt: str) -> bool:
        return prompt in self.conditionings

    def __len__(self) -> int:
        return len(self.conditionings)


def encode_prompts(
    clip: Clip | None,
    prompts: Iterable[str],
    before_each: Callable[[int], None] = lambda done: None,
    look: CutPrompts | None = None,
    text_of: Callable[[str], str] = str,
) -> Encoded:
    """Encodes each distinct prompt once, as the CLIPTextEncode node does; the empty prompt is a prompt too.

    clip: ComfyUI's CLIP. before_each(done) is called before each prompt: for progress, and to stop by an exception.
    look: tells which prompts are cut off; without it nobody asks. text_of: the words of a prompt's name. The
    tensors lie on the CPU. Raises ValueError when there is no CLIP.
    """
    if clip is None:
        raise ValueError("There is no CLIP: the checkpoint has no text encoder, so load one with a CLIP loader.")
    conditionings: dict[str, Conditioning | ItemInputs] = {}
    cut = {}
    # Leaving inference mode matters: tensors made inside it can't be trained through.
    with torch.inference_mode(False), torch.no_grad():
        for done, prompt in enumerate(dict.fromkeys(prompts)):
            before_each(done)
            tokens = clip.tokenize(text_of(prompt))
            scheduled = clip.encode_from_tokens_scheduled(tokens)
            conditionings[prompt] = map_tensors(scheduled, _to_cpu)
            if look and (encoders := look.encoders(text_of(prompt), tokens, scheduled)):
                cut[prompt] = encoders
    return Encoded(conditionings, cut, look.names if look else [])


def item_inputs(positive: Conditioning, negative: Conditioning | None, latent: dict | None) -> ItemInputs:
    """What a graph's nodes gave for an item, on the CPU. Raises ValueError for what a training can't begin from."""
    to_cpu = functools.cache(_own_on_cpu)  # one that positive and negative share stays one
    samples, shape = None, ()
    if latent is not None:
        if latent.get("noise_mask") is not None:
            raise ValueError(
                "latent of MixGRPO Train has a noise mask, and training draws whole images: connect an empty latent "
                "(InpaintModelConditioning: noise_mask off)."
            )
        shape = tuple(latent["samples"].shape)
        samples = to_cpu(latent["samples"]) if latent["samples"].any() else None
    return ItemInputs(map_tensors(positive, to_cpu), map_tensors(negative, to_cpu), samples, shape)


def save(encoded: Encoded, path: str | os.PathLike) -> None:
    """One safetensors file: the tensors by number, everything else as JSON in its metadata.

    Raises ValueError, naming prompt and key, for a value that is neither a tensor nor plain data.
    """
    tensors = _Tensors()
    structure = {
        prompt: _describe(_plain(made), tensors, f"prompt '{prompt}'") for prompt, made in encoded.conditionings.items()
    }
    digests = {prompt: _digest(made) for prompt, made in encoded.conditionings.items()}
    texts = EncodedTexts(digests, encoded.cut, encoded.encoders)
    tensor_files.save(tensors.by_name, path, {_STRUCTURE: json.dumps(structure), **texts.as_metadata()})


def load(path: str | os.PathLike, prompts: Iterable[str] | None = None) -> Encoded:
    """The reverse of `save`; of some prompts only, when they are given: nothing else is then read.

    The tensors are views of the file in memory, as far as safetensors does that: they take memory once they are used.
    Raises ValueError when the file isn't one of save's, KeyError for a prompt that it doesn't hold.
    """
    with safe_open(Path(path), framework="pt") as file:
        structure = _structure(file, path)
        wanted = structure if prompts is None else {prompt: structure[prompt] for prompt in prompts}
        made = {prompt: _rebuild(node, functools.cache(file.get_tensor)) for prompt, node in wanted.items()}
    return Encoded({prompt: ItemInputs(**each) if isinstance(each, dict) else each for prompt, each in made.items()})


def stored_prompts(path: str | os.PathLike) -> list[str]:
    """The prompts that a file of `save` holds, in order; their tensors aren't read. Raises as `load` does."""
    with safe_open(Path(path), framework="pt") as file:
        return list(_structure(file, path))


def latent_shapes(path: str | os.PathLike) -> dict[str, tuple[int, ...]]:
    """Encoded.latent_shapes() of a file of `save` that holds items; their tensors aren't read."""
    with safe_open(Path(path), framework="pt") as file:
        items = {name: node["dict"] for name, node in _structure(file, path).items() if "dict" in node}
        return {name: _rebuild(item["latent_shape"], file.get_tensor) for name, item in items.items()}


def encoded_texts(path: str | os.PathLike) -> EncodedTexts:
    """What a file of `save` tells of its prompts; their tensors aren't read."""
    with safe_open(Path(path), framework="pt") as file:
        return EncodedTexts.of_metadata(file.metadata() or {})


def not_encoded(prompt: str) -> str:
    return f"The prompt '{prompt}' was not encoded: encode all prompts of a run, the negative one too, before it."


def _structure(file: safe_open, path: str | os.PathLike) -> dict[str, dict]:
    metadata = file.metadata() or {}
    if _STRUCTURE not in metadata:
        raise ValueError(f"'{path}' holds no encoded prompts: delete it, and the run encodes its prompts again.")
    return json.loads(metadata[_STRUCTURE])


def _to_cpu(tensor: Tensor) -> Tensor:
    return (tensor.clone() if tensor.is_inference() else tensor.detach()).cpu()


def _own_on_cpu(tensor: Tensor) -> Tensor:
    """Without a larger tensor that it is a part of."""
    return tensor.detach().to("cpu", copy=True).contiguous()


def map_tensors(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """A conditioning, or a part of it, with function(tensor) in the place of every tensor."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, (list, tuple)):
        made = [map_tensors(item, function) for item in value]
        return tuple(made) if isinstance(value, tuple) else made
    if isinstance(value, dict):
        return {key: map_tensors(item, function) for key, item in value.items()}
    if _is_clip_vision(value):
        return _clip_vision_output(map_tensors(vars(value), function))
    return value


class _Tensors:
    """Tensors by the names that a file has them under; each once."""

    def __init__(self) -> None:
        self.by_name: dict[str, Tensor] = {}
        self._names: dict[int, str] = {}

    def name(self, tensor: Tensor) -> str:
        name = self._names.setdefault(id(tensor), str(len(self.by_name)))
        self.by_name[name] = tensor
        return name


def _plain(made: Conditioning | ItemInputs) -> Any:
    return vars(made) if isinstance(made, ItemInputs) else made


def _describe(value: object, tensors: _Tensors, where: str) -> dict:
    """The value as JSON-ready data; its tensors go into `tensors`."""
    if isinstance(value, Tensor):
        return {"tensor": tensors.name(value)}
    if isinstance(value, (list, tuple)):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_describe(item, tensors, where) for item in value]}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"dict": {key: _describe(item, tensors, f"'{key}' of {where}") for key, item in value.items()}}
    if isinstance(value, dict) and all(isinstance(key, int) for key in value):
        return {"numbers": [[key, _describe(item, tensors, f"{key} of {where}")] for key, item in value.items()]}
    if _is_clip_vision(value):
        return {"clip_vision": _describe(vars(value), tensors, where)}
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return {"value": value}
    raise ValueError(
        f"{where} is a {type(value).__name__}, which can't be stored: use a conditioning without the node that adds it."
    )


def _digest(made: Conditioning | ItemInputs) -> str:
    tensors = _Tensors()
    structure = _describe(_plain(made), tensors, "a prompt")
    return digest(list(tensors.by_name.values()), [json.dumps(structure, sort_keys=True)])


def _rebuild(node: dict, tensor: Callable[[str], Tensor]) -> Any:
    """The reverse of _describe; tensor: gives the tensor of a name."""
    ((kind, content),) = node.items()
    if kind == "tensor":
        return tensor(content)
    if kind in ("list", "tuple"):
        made = [_rebuild(item, tensor) for item in content]
        return tuple(made) if kind == "tuple" else made
    if kind == "dict":
        return {key: _rebuild(item, tensor) for key, item in content.items()}
    if kind == "numbers":
        return {key: _rebuild(item, tensor) for key, item in content}
    if kind == "clip_vision":
        return _clip_vision_output(_rebuild(content, tensor))
    return content


def _is_clip_vision(value: object) -> bool:
    return type(value).__module__ == "comfy.clip_vision" and type(value).__name__ == "Output"


def _clip_vision_output(values: dict[str, Any]) -> Any:
    import comfy.clip_vision

    made = comfy.clip_vision.Output()
    vars(made).update(values)
    return made
