"""Whether a model takes what an item's nodes made: ComfyUI ignores, cuts or stretches in silence what doesn't fit."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from ..comfy_types import BaseModel, Conditioning
from .condition import ModelInputs, check_plain
from .conditioning import ItemInputs, map_tensors
from .cut_prompts import equal
from .families import missing_picture

OF_TEXT = ("pooled_output", "attention_mask")  # keys that text encoders give, whether a model reads them or not
PICTURE = "concat_latent_image"
FREE_SIZES = ("reference_latents",)


def check_alike(name: str, made: ItemInputs, first: ItemInputs) -> None:
    """Without a model, as soon as an item is made. Raises ValueError, naming it, for what can't be trained, or isn't
    of the same kind as the first item's; in size only latent may differ, and all pictures with it."""
    for kind in ("positive", "negative"):
        conditioning, other = getattr(made, kind), getattr(first, kind)
        if conditioning is None:
            continue
        try:
            check_plain(conditioning)
        except ValueError as error:
            raise ValueError(f"{kind} of '{name}': {error}") from None
        here, there = (_sizes(each[0][1]) for each in (conditioning, other))
        for key in sorted(here.keys() | there.keys()):
            sizes = [(here.get(key), made.latent_shape), (there.get(key), first.latent_shape)]
            if not _alike(key, *sizes):
                raise ValueError(
                    f"{kind} of '{name}' has {_told(key, here)}, the first item's {_told(key, there)}: a training has "
                    "one kind of conditioning, and pictures of one size for one size of latent: scale them alike "
                    "before they are encoded."
                )
        for key, value in conditioning[0][1].items():
            if any(tensor.ndim > 3 and len(tensor) != 1 for tensor in tensors_of(value)):
                raise ValueError(f"'{key}' in {kind} of '{name}' holds a batch of pictures: give one an item.")
    if made.latent_shape[:-2] != first.latent_shape[:-2]:
        raise ValueError(
            f"latent of '{name}' is {list(made.latent_shape)}, the first item's {list(first.latent_shape)}: only "
            "height and width may differ."
        )
    if made.latent_shape and made.latent_shape[0] != 1:
        raise ValueError(f"latent of '{name}' is a batch of {made.latent_shape[0]}: set batch_size to 1.")


def check_with_model(
    model: BaseModel,
    conditioning: Conditioning,
    kind: str,
    noise: Tensor,
    prepare: Callable[[Conditioning], ModelInputs],
) -> None:
    """Raises ValueError for what the model would ignore, stretch, or miss. prepare: a conditioning to its inputs."""
    extras, name = conditioning[0][1], type(model).__name__
    if PICTURE in extras and extras[PICTURE].shape[2:] != noise.shape[2:]:
        have, want = (" x ".join(map(str, shape[2:])) for shape in (extras[PICTURE].shape, noise.shape))
        raise ValueError(
            f"The picture in {kind} is {have} latents, and {want} are trained: scale it to Train's width and height, "
            "or connect latent."
        )
    inputs = prepare(conditioning)
    plain = {key: value for key, value in extras.items() if key in OF_TEXT}
    if (missing := missing_picture(model)) and not _differ(inputs, prepare([[conditioning[0][0], plain]]), "c_concat"):
        raise ValueError(
            f"This MODEL ({name}) needs {missing}, and {kind} of MixGRPO Train brings none: make it with the model's "
            "own conditioning node, such as InpaintModelConditioning, WanImageToVideo or ReferenceLatent."
        )
    for key, value in extras.items():
        if key in OF_TEXT or not tensors_of(value):
            continue
        changed = [[conditioning[0][0], {**extras, key: map_tensors(value, _other)}]]
        if not _differ(inputs, prepare(changed), *inputs):
            raise ValueError(
                f"This MODEL ({name}) takes nothing from '{key}', which is in {kind} of MixGRPO Train: leave out the "
                "node that adds it, or use a model that is made for it."
            )


def tensors_of(value: Any) -> list[Tensor]:
    found: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    map_tensors(value, keep)
    return found


def _sizes(extras: dict[str, Any]) -> dict[str, list[tuple[int, ...]]]:
    return {
        key: [] if key in FREE_SIZES else [tuple(tensor.shape) for tensor in tensors_of(value) if tensor.ndim > 3]
        for key, value in extras.items()
        if key not in OF_TEXT
    }


def _alike(key: str, *items: tuple[list[tuple[int, ...]] | None, tuple[int, ...]]) -> bool:
    """Whether two items' pictures (their sizes, and the size of the item's latent) are of one size, or all of them as
    many times as large as their latents."""
    (sizes, latent), (others, other) = items
    if sizes == others and (key != PICTURE or latent[-2:] == other[-2:]):
        return True
    if not (sizes and others and latent and other):
        return False

    def relative(sizes: list[tuple[int, ...]], latent: tuple[int, ...]) -> list[tuple]:
        return [(*size[:-2], *map(Fraction, size[-2:], latent[-2:])) for size in sizes]

    return relative(sizes, latent) == relative(others, other)


def _told(key: str, sizes: dict[str, list[tuple[int, ...]]]) -> str:
    found = [" x ".join(map(str, size)) for size in sizes.get(key, [])]
    return f"{' and '.join(found)} '{key}'" if found else f"'{key}'" if key in sizes else f"no '{key}'"


def _differ(one: ModelInputs, other: ModelInputs, *names: str) -> bool:
    return any(name not in other or not equal(one[name].cond, other[name].cond) for name in names)


def _other(tensor: Tensor) -> Tensor:
    return ~tensor if tensor.dtype == torch.bool else tensor + 1
