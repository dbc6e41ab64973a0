"""What a node gets that takes whole lists: batches of images, perhaps of several sizes, and their prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from ...mixgrpo_engine.prompt_files import of_text
from ...mixgrpo_engine.rewards.references import IMAGE, MASK, References

Value = TypeVar("Value")


def one(values: Sequence | None, default: Any = None) -> Any:
    """The value of an input that isn't meant to be a list: such a node gets every input as one."""
    return values[0] if values else default


def batches(images: Sequence[Tensor]) -> list[Tensor]:
    """IMAGE values as (images, height, width, 3); an alpha channel is left out.

    Raises ValueError when there is no image, or one without three colours.
    """
    for batch in images:
        if batch.ndim != 4 or batch.shape[-1] < 3:
            raise ValueError(f"images are {tuple(batch.shape)}: they must be (batch, height, width, 3), an IMAGE.")
    if not sum(len(batch) for batch in images):
        raise ValueError("There are no images: connect some.")
    return [batch[..., :3] for batch in images]


def prompts_of(prompt: Sequence[str], prompt_per_line: bool, sizes: Sequence[int]) -> list[str]:
    """One prompt an image. sizes: images in each batch.

    prompt: one text for all images, or (prompt_per_line) one line an image; or a list with one text for each batch
    or each image. Raises ValueError when the numbers don't fit.
    """
    total, texts = sum(sizes), list(prompt)
    if prompt_per_line:
        lines = [line for text in texts for line in of_text(text)]
        if len(lines) != total:
            raise ValueError(
                f"prompt has {len(lines)} lines and there are {total} images: write one line an image, or switch "
                "prompt_per_line off."
            )
        return lines
    return _one_an_image("prompt", texts, sizes)


def references_of(
    source: Sequence[Tensor] | None, mask: Sequence[Tensor] | None, sizes: Sequence[int]
) -> list[References] | None:
    """What each image was made from; None where nothing is connected. sizes: images in each batch.

    source: IMAGE values; mask: MASK values, (height, width) or a batch of them; one picture for all images, one for
    each batch, or one an image. Raises ValueError when the numbers don't fit.
    """
    given = {
        IMAGE: [picture for batch in batches(source or []) for picture in batch] if source else [],
        MASK: [picture for batch in mask or [] for picture in batch.reshape(-1, *batch.shape[-2:])],
    }
    names = {IMAGE: "source", MASK: "mask"}
    spread = {name: _one_an_image(names[name], pictures, sizes) for name, pictures in given.items() if pictures}
    if not spread:
        return None
    each = [dict(zip(spread, pictures, strict=True)) for pictures in zip(*spread.values(), strict=True)]
    # Images of one source share its References: whoever sends or looks at it does so once.
    made: dict[tuple, References] = {}
    return [made.setdefault(tuple(map(id, pictures.values())), References(pictures)) for pictures in each]


def _one_an_image(name: str, given: Sequence[Value], sizes: Sequence[int]) -> list[Value]:
    """given: one for all images, one for each batch, or one an image."""
    total = sum(sizes)
    if len(given) == 1:
        return [*given] * total
    if len(given) == len(sizes):
        return [each for each, size in zip(given, sizes, strict=True) for _ in range(size)]
    if len(given) != total:
        raise ValueError(
            f"{name} is a list of {len(given)} and there are {total} images in {len(sizes)} batches: give one for all, "
            "one a batch, or one an image."
        )
    return [*given]


def select(images: Sequence[Tensor], places: Sequence[int]) -> list[Tensor]:
    """Images by their number over all batches, in this order: one batch if they have one size, else one by one."""
    singles = [batch[row : row + 1] for batch in images for row in range(len(batch))]
    chosen = [singles[place] for place in places]
    return [torch.cat(chosen)] if len({image.shape for image in chosen}) == 1 else chosen
