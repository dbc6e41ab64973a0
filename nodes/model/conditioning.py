"""Prompts through ComfyUI's CLIP object, and a file format for their encodings."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from ...mixgrpo_engine.encoded_texts import EncodedTexts, digest
from ...mixgrpo_engine.records import tensor_files
from ..comfy_types import Clip, Conditioning
from .cut_prompts import CutPrompts

_STRUCTURE = "mixgrpo_conditioning"  # the metadata entry that says which tensor belongs where


@dataclass(frozen=True)
class Encoded:
    """Encoded prompts. `conditionings` maps a prompt to what CLIPTextEncode gives: [[tokens, {key: value}], ...]."""

    conditionings: dict[str, Conditioning]
    # Prompt -> text encoders that read only its beginning, as far as that was looked for.
    cut: dict[str, list[str]] = field(default_factory=dict)
    encoders: list[str] = field(default_factory=list)  # that were looked at

    def __getitem__(self, prompt: str) -> Conditioning:
        if prompt not in self.conditionings:
            raise KeyError(not_encoded(prompt))
        return self.conditionings[prompt]

    def __contains__(self, prompt: str) -> bool:
        return prompt in self.conditionings

    def __len__(self) -> int:
        return len(self.conditionings)


def encode_prompts(
    clip: Clip | None,
    prompts: Iterable[str],
    before_each: Callable[[int], None] = lambda done: None,
    look: CutPrompts | None = None,
) -> Encoded:
    """Encodes each distinct prompt once, as the CLIPTextEncode node does; the empty prompt is a prompt too.

    clip: ComfyUI's CLIP. before_each(done) is called before each prompt: for progress, and to stop by an exception.
    look: tells which prompts are cut off; without it nobody asks. The tensors lie on the CPU.
    Raises ValueError when there is no CLIP.
    """
    if clip is None:
        raise ValueError("There is no CLIP: the checkpoint has no text encoder, so load one with a CLIP loader.")
    conditionings, cut = {}, {}
    # Leaving inference mode matters: tensors made inside it can't be trained through.
    with torch.inference_mode(False), torch.no_grad():
        for done, prompt in enumerate(dict.fromkeys(prompts)):
            before_each(done)
            tokens = clip.tokenize(prompt)
            scheduled = clip.encode_from_tokens_scheduled(tokens)
            conditionings[prompt] = _map_tensors(scheduled, _to_cpu)
            if look and (encoders := look.encoders(prompt, tokens, scheduled)):
                cut[prompt] = encoders
    return Encoded(conditionings, cut, look.names if look else [])


def save(encoded: Encoded, path: str | os.PathLike) -> None:
    """One safetensors file: the tensors by number, everything else as JSON in its metadata.

    Raises ValueError, naming prompt and key, for a value that is neither a tensor nor plain data.
    """
    tensors: dict[str, Tensor] = {}
    structure = {
        prompt: _describe(conditioning, tensors, f"prompt '{prompt}'")
        for prompt, conditioning in encoded.conditionings.items()
    }
    digests = {prompt: _digest(conditioning) for prompt, conditioning in encoded.conditionings.items()}
    texts = EncodedTexts(digests, encoded.cut, encoded.encoders)
    tensor_files.save(tensors, path, {_STRUCTURE: json.dumps(structure), **texts.as_metadata()})


def load(path: str | os.PathLike, prompts: Iterable[str] | None = None) -> Encoded:
    """The reverse of `save`; of some prompts only, when they are given: nothing else is then read.

    The tensors are views of the file in memory, as far as safetensors does that: they take memory once they are used.
    Raises ValueError when the file isn't one of save's, KeyError for a prompt that it doesn't hold.
    """
    with safe_open(Path(path), framework="pt") as file:
        structure = _structure(file, path)
        wanted = structure if prompts is None else {prompt: structure[prompt] for prompt in prompts}
        return Encoded({prompt: _rebuild(node, file.get_tensor) for prompt, node in wanted.items()})


def stored_prompts(path: str | os.PathLike) -> list[str]:
    """The prompts that a file of `save` holds, in order; their tensors aren't read. Raises as `load` does."""
    with safe_open(Path(path), framework="pt") as file:
        return list(_structure(file, path))


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


def _map_tensors(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, (list, tuple)):
        return [_map_tensors(item, function) for item in value]
    if isinstance(value, dict):
        return {key: _map_tensors(item, function) for key, item in value.items()}
    return value


def _describe(value: object, tensors: dict[str, Tensor], where: str) -> dict:
    """The value as JSON-ready data; its tensors go into `tensors`."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, (list, tuple)):
        return {"list": [_describe(item, tensors, where) for item in value]}
    if isinstance(value, dict):
        return {"dict": {str(key): _describe(item, tensors, f"'{key}' of {where}") for key, item in value.items()}}
    if value is None or isinstance(value, (bool, int, float, str)):
        return {"value": value}
    raise ValueError(
        f"{where} is a {type(value).__name__}, which can't be stored: use a CLIP without the node that adds it."
    )


def _digest(conditioning: Conditioning) -> str:
    tensors: dict[str, Tensor] = {}
    structure = _describe(conditioning, tensors, "a prompt")
    return digest(list(tensors.values()), [json.dumps(structure, sort_keys=True)])


def _rebuild(node: dict, tensor: Callable[[str], Tensor]) -> Any:
    """The reverse of _describe; tensor: gives the tensor of a name."""
    ((kind, content),) = node.items()
    if kind == "tensor":
        return tensor(content)
    if kind == "list":
        return [_rebuild(item, tensor) for item in content]
    if kind == "dict":
        return {key: _rebuild(item, tensor) for key, item in content.items()}
    return content
