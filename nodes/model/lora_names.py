"""LoRA files and a MODEL's layers: what ComfyUI's own loader reads of a file, and under which names others read it too.

ComfyUI's map from names in a file to weights is the only table of names: it is read forwards to load a file, and
backwards to write one that diffusers' load_lora_weights knows as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...mixgrpo_engine import lora
from ...mixgrpo_engine.config import AdapterConfig
from ...mixgrpo_engine.lora import Factors
from ..comfy_types import BaseModel
from . import start_lora

OWN = "diffusion_model."
OTHERS = ("transformer.", OWN)
"""What diffusers' names begin with in a file; Z-Image's with the same as ComfyUI's own."""

ENDING = re.compile(r"[._](lora_(up|down|A|B)(\.default)?|(lora|lora_linear_layer)\.(up|down))(\.weight)?$")
"""What says which of a layer's two matrices a tensor is, in all forms that ComfyUI reads."""


@dataclass(frozen=True)
class Target:
    """What a name in a file stands for: rows of a layer's weight."""

    layer: str  # relative to the network
    start: int
    rows: int
    function: Callable[[Tensor], Tensor] | None  # of these rows: other implementations order some differently
    weight: Tensor

    def takes(self, pair: Factors) -> bool:
        # Packed weights have a shape of their own, which tells nothing.
        fits = (pair.up.shape[0], pair.down.shape[1]) == (self.rows, self.weight.shape[1])
        return fits or not self.weight.is_floating_point()

    def turned(self, rows: Tensor) -> Tensor:
        return self.function(rows) if self.function else rows


class FileNames:
    """The names of a model's layers in the LoRA file that is made of it: read by ComfyUI's loader, and by diffusers.

    They are diffusers' own, where ComfyUI knows those for all layers of this model; fused layers (qkv) are split then.
    Other families keep ComfyUI's.
    """

    def __init__(self, model: BaseModel) -> None:
        """model: as it was before the LoRA was put onto it."""
        by_layer: dict[str, list[tuple[str, Target]]] = {}
        for name, (_, target) in _targets(model).items():
            by_layer.setdefault(target.layer, []).append((lora.plain(name), target))
        self.layers = by_layer.keys()
        self.others: dict[str, list[tuple[str, Target]]] = {}  # by layer, where there are any
        for layer, known in by_layer.items():
            others = [part for part in known if part[0].startswith(OTHERS) and part[0] != OWN + layer]
            wholes = [_whole(part for part in others if part[0].startswith(prefix)) for prefix in OTHERS]
            self.others[layer] = next(filter(None, wholes), [])
            if others and not self.others[layer] and lora.in_blocks(layer):
                self.others = {}  # ComfyUI's map was made for another model: its names would be wrong here
                break

    def require(self, layers: Iterable[str]) -> None:
        """Raises ValueError with a count and the first names unless ComfyUI's loader can find all of these layers."""
        what = "layers with a LoRA could be loaded by ComfyUI"
        lora.require_all(layers, self.layers, what, "leave the others out by exclude of MixGRPO LoRA.")

    def rename(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of an exported LoRA under these names."""
        down, up = ".lora_A.weight", ".lora_B.weight"
        renamed: dict[str, Tensor] = {}
        for layer in (name.removeprefix(OWN).removesuffix(down) for name in tensors if name.endswith(down)):
            a, b = tensors[OWN + layer + down], tensors[OWN + layer + up]
            if not self.others.get(layer):
                renamed |= {OWN + layer + down: a, OWN + layer + up: b}
            for name, target in self.others.get(layer, []):
                renamed |= {name + down: a, name + up: target.turned(b[target.start : target.start + target.rows])}
        # Where some layer has ComfyUI's name only, others would read a part of the file and say nothing.
        return renamed if len({name.split(".")[0] for name in renamed}) == 1 else tensors


def start_of(adapter: AdapterConfig, model: BaseModel) -> dict[str, Factors] | None:
    """The LoRA that a training goes on from, by layer. Raises ValueError for a file that isn't one of this model."""
    if not adapter.start_from:
        return None
    tensors = start_lora.load(adapter.start_from)
    what = f"the LoRA '{adapter.start_from}'"
    found = read(model, tensors, what, "start_from takes plain LoRA layers of this model and nothing else.")
    return lora.restored(found, start_lora.path(adapter.start_from))


def read(model: BaseModel, tensors: dict[str, Tensor], what: str, advice: str) -> dict[str, Factors]:
    """A LoRA file's tensors as the LoRA of this model's layers: whatever ComfyUI's loader reads onto its matrices.

    Layers that another implementation has split are put together.
    Raises ValueError with a count and the first names unless every tensor is a part of it.
    """
    import comfy.lora
    import comfy.lora_convert

    known = _targets(model)
    of_value = dict(known.values())
    tensors = comfy.lora_convert.convert_lora(tensors)
    pieces: dict[str, list[tuple[Factors, Target]]] = {}
    taken = set()
    patches = comfy.lora.load_lora(tensors, {name: value for name, (value, _) in known.items()}, log_missing=False)
    for value, patch in patches.items():
        pair, target = _pair(patch), of_value[value]
        if pair and target.takes(pair):
            pieces.setdefault(target.layer, []).append((pair, target))
            taken |= {id(each) for each in patch.weights[:2]}
    named = {ENDING.sub("", name): id(tensor) in taken for name, tensor in tensors.items() if _counts(name)}
    lora.require_all(
        named, [name for name, there in named.items() if there], f"layers of {what} fit this model", advice
    )
    return {layer: _joined(parts) for layer, parts in pieces.items()}


def _counts(name: str) -> bool:
    return not name.endswith(".alpha")


def _targets(model: BaseModel) -> dict[str, tuple[Any, Target]]:
    """Name in a file (without ENDING) -> (ComfyUI's value for it, what that is): matrices of the network only."""
    import comfy.lora

    weights = {name: weight for name, weight in model.state_dict().items() if len(weight.shape) == 2}
    found = {}
    for name, value in comfy.lora.model_lora_keys_unet(model, {}).items():
        key, *rest = (value,) if isinstance(value, str) else value
        if key in weights and key.startswith(OWN) and key.endswith(".weight"):
            offset, function = [*rest, None, None][:2]
            _, start, rows = offset or (0, 0, weights[key].shape[0])
            layer = lora.plain(key.removeprefix(OWN).removesuffix(".weight"))
            found[name] = (value, Target(layer, start, rows, function, weights[key]))
    return found


def _pair(patch: Any) -> Factors | None:
    """What a patch of ComfyUI's adds, if it is two matrices and nothing else (no LoKr, DoRA, convolution ...)."""
    if getattr(patch, "name", "") != "lora" or any(each is not None for each in patch.weights[3:]):
        return None
    up, down, alpha = patch.weights[:3]
    if up.ndim != 2 or down.ndim != 2 or up.shape[1] != down.shape[0]:
        return None
    return Factors(down, up, float(down.shape[0] if alpha is None else alpha))


def _joined(parts: list[tuple[Factors, Target]]) -> Factors:
    """One LoRA of a layer out of those of its rows."""
    first, target = parts[0]
    rows = target.weight.shape[0]
    if len(parts) == 1 and target.rows == rows:
        return Factors(first.down, target.turned(first.up), first.alpha)
    # Of a fused layer that was split for the file all have the same down: it is one LoRA again.
    shared = all(torch.equal(each.down, first.down) and each.alpha == first.alpha for each, _ in parts)
    downs = [first.down] if shared else [each.down.float() for each, _ in parts]
    down = torch.cat(downs)
    up, column = torch.zeros(rows, len(down)), 0
    for each, target in parts:
        scale = 1.0 if shared else each.alpha / each.rank
        place = slice(target.start, target.start + target.rows), slice(column, column + each.rank)
        up[place] = target.turned(each.up).float() * scale
        column += 0 if shared else each.rank
    return Factors(down, up, first.alpha if shared else float(len(down)))


def _whole(parts: Iterable[tuple[str, Target]]) -> list[tuple[str, Target]]:
    """Those of the names that together stand for all rows of a layer, each once; [] if they don't."""
    chosen: list[tuple[str, Target]] = []
    end = 0
    for name, target in sorted(parts, key=lambda part: (part[1].start, part[1].rows)):
        if target.start == end:
            chosen.append((name, target))
            end += target.rows
    return chosen if chosen and end == chosen[0][1].weight.shape[0] else []
