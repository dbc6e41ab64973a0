"""What an image was made from, for the rewards that look at it: source pictures and columns of its prompt's item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from . import Reward

IMAGE = "image"  # the picture that was edited
MASK = "mask"  # where it may change: 1 may, 0 may not


@dataclass(frozen=True)
class References:
    """Of one image."""

    # name -> float (height, width, 3) in 0..1, a mask (height, width); of any size, also another than the image's.
    images: Mapping[str, Tensor] = field(default_factory=dict)
    # name -> text, as the list of items has it.
    columns: Mapping[str, str] = field(default_factory=dict)


def uses_references(reward: Reward) -> bool:
    """Whether score() and strict() take a list of References, one an image, after the prompts."""
    return bool(getattr(reward, "uses_references", False))


def check_references(reward: Reward, references: Sequence[References] | None) -> None:
    """Raises ValueError with one sentence when a reward can't work with these; for the start of a run, too.

    references: one an image or a prompt; None where prompts are nothing but text.
    """
    wanted = tuple(getattr(reward, "needed_references", ()))
    for given in [References()] if references is None else references:
        missing = [name for name in wanted if name not in given.images]
        if missing:
            raise ValueError(
                f"The reward '{reward.name}' compares with the picture '{missing[0]}' that an image was made from, and "
                f"{'there are prompts only' if references is None else 'an item has none'}: give it (items of "
                "a training, source and mask of MixGRPO Score), or take another reward."
            )


def arguments(reward: Reward, images: Tensor, prompts: Sequence[str], references: Sequence[References] | None) -> tuple:
    """What the reward's score() and strict() are called with. Raises ValueError as check_references() does.

    A reward that uses references without needing them gets empty ones where there are none.
    """
    check_references(reward, references)
    if not uses_references(reward):
        return images, list(prompts)
    given = [References()] * len(prompts) if references is None else list(references)
    if len(given) != len(prompts):
        raise ValueError(f"{len(prompts)} images, but {len(given)} references")
    return images, list(prompts), given
