"""The prompts of a run: which are trained on, which are held out, and in which order they come."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .items import Item
    from .rewards import Reward
    from .rewards.references import References

AUTOMATIC = -1  # prompts to hold out: about a fifth, MOST_HELD_OUT at most, none of fewer than FEW
MOST_HELD_OUT, FEW = 32, 4
MEASURED = 8  # training prompts that are measured where none are held out

BOM = "\ufeff"  # begins many files of Windows programs, and comes along when such text is pasted
# NUL is what UTF-16 looks like when it is read as something else; a half of a pair comes out of broken JSON.
_NO_TEXT = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True)
class PromptSet:
    """Training prompts and held-out prompts; the two never overlap.

    A prompt that is an item stands here by the item's name: many items may have one text.
    """

    train: tuple[str, ...]
    held_out: tuple[str, ...] = ()
    items: Mapping[str, Item] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.train:
            raise ValueError("There are no training prompts: give at least one prompt, one a line.")
        overlap = set(self.train) & set(self.held_out)
        if overlap:
            raise ValueError(f"This prompt is both trained on and held out: '{sorted(overlap)[0]}'. Remove one.")

    def at(self, iteration: int, count: int, seed: int) -> list[str]:
        """The `count` prompts of an iteration: each epoch is a seeded shuffle of all training prompts.

        A pure function of its arguments, so that a resumed run and every rank see the same prompts.
        """
        size = len(self.train)
        places = (divmod(position, size) for position in range(iteration * count, (iteration + 1) * count))
        return [self.train[_order(size, seed, epoch)[place]] for epoch, place in places]

    def text(self, name: str) -> str:
        """The words of a prompt."""
        return self.items[name].prompt if name in self.items else name

    @property
    def has_pictures(self) -> bool:
        return any(item.pictures for item in self.items.values())

    def references(self, names: Sequence[str]) -> list[References] | None:
        """What images of these prompts are made from, one a name; None where no prompt is an item.

        Raises ValueError when a picture can't be read.
        """
        from .rewards.references import References

        if not self.items:
            return None
        found = {name: self.items[name].references() if name in self.items else References() for name in {*names}}
        return [found[name] for name in names]

    def check_rewards(self, rewards: Iterable[Reward]) -> None:
        """Raises ValueError with one sentence for a reward that needs pictures which a prompt doesn't have."""
        import torch

        from .items import PICTURES, Item
        from .rewards.references import References, check_references

        pixels = torch.empty(0)
        for reward in rewards:
            if not getattr(reward, "needed_references", ()):
                continue
            check_references(reward, [] if self.items else None)
            for name in (*self.held_out, *self.train):
                item = self.items.get(name, Item(name))
                check_references(reward, [References({each: pixels for each in PICTURES if item.has(each)})])

    def as_dict(self, root: Path) -> dict[str, list]:
        """Plain data; root: the folder below which the items' pictures are."""
        return {
            kind: [{"name": name, **self.items[name].as_dict(root)} if name in self.items else name for name in names]
            for kind, names in (("train", self.train), ("held_out", self.held_out))
        }

    @classmethod
    def of_dict(cls, made: Mapping[str, list], root: Path) -> PromptSet:
        """The reverse. Raises ValueError for a picture elsewhere than below root."""
        from .items import Item

        items = {each["name"]: Item.of_dict(each, root) for kind in made for each in made[kind] if type(each) is dict}
        return cls(tuple(map(name_of, made["train"])), tuple(map(name_of, made["held_out"])), items)

    @property
    def measured(self) -> tuple[str, ...]:
        """The prompts that evaluations score: the held-out ones; with none, the first training prompts."""
        return self.held_out or self.train[:MEASURED]

    def needed(self, iterations: int, count: int, seed: int) -> list[str]:
        """What a run of so many iterations measures or draws, each once; more iterations only add to the end.

        count, seed: as for at(). The first epoch's draws are all that there are, in another order after it.
        """
        return list(dict.fromkeys([*self.measured, *self.drawn(iterations, count, seed)]))

    def drawn(self, iterations: int, count: int, seed: int) -> list[str]:
        """What a run of so many iterations trains on, each once, in the order of the first epoch."""
        return [self.train[place] for place in _order(len(self.train), seed, 0)[: iterations * count]]


@lru_cache(maxsize=2)  # an iteration may lie across two epochs; a million prompts take half a second to shuffle
def _order(size: int, seed: int, epoch: int) -> array[int]:
    order = array("q", range(size))
    Random(f"{seed}/{epoch}").shuffle(order)
    return order


def name_of(entry: Any) -> str:
    """Of an entry of PromptSet.as_dict()."""
    return str(entry["name"] if isinstance(entry, dict) else entry)


def cleaned(prompts: Iterable[str]) -> list[str]:
    """Prompts without byte order marks and space around them; empty ones are left out.

    Raises ValueError for one that no text encoder could read.
    """
    found = [text for prompt in prompts if (text := prompt.replace(BOM, "").strip())]
    for text in found:
        if _NO_TEXT.search(text):
            raise ValueError(f"This prompt isn't whole text: {text!r}. If it comes from a file, save that as UTF-8.")
    return found


def split(prompts: Iterable[str], held_out: int, seed: int = 0, items: Mapping[str, Item] | None = None) -> PromptSet:
    """Splits distinct prompts into train and held-out ones by a seeded shuffle; keeps the given order within each.

    held_out: how many, or AUTOMATIC. items: those that are, by name. Repeated prompts and empty ones are dropped.
    Raises ValueError when nothing would be left to train on.
    """
    distinct = list(dict.fromkeys(cleaned(prompts)))
    if not distinct:
        raise ValueError("The prompt list is empty: write one prompt a line.")
    if held_out == AUTOMATIC:
        held_out = 0 if len(distinct) < FEW else min(MOST_HELD_OUT, round(len(distinct) / 5))
    if held_out >= len(distinct):
        raise ValueError(
            f"{held_out} of {len(distinct)} prompts are to be held out, which leaves none to train on: "
            "hold out fewer or add prompts."
        )
    kept_back = set(Random(seed).sample(range(len(distinct)), held_out))
    return PromptSet(
        train=tuple(p for i, p in enumerate(distinct) if i not in kept_back),
        held_out=tuple(p for i, p in enumerate(distinct) if i in kept_back),
        items=items or {},
    )
