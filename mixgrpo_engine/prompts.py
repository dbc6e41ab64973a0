"""The prompts of a run: which are trained on, which are held out, and in which order they come."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True)
class PromptSet:
    """Training prompts and held-out prompts; the two never overlap."""

    train: tuple[str, ...]
    held_out: tuple[str, ...] = ()

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
        chosen = []
        for position in range(iteration * count, (iteration + 1) * count):
            epoch, place = divmod(position, size)
            order = list(range(size))
            Random(f"{seed}/{epoch}").shuffle(order)
            chosen.append(self.train[order[place]])
        return chosen


def split(prompts: list[str], held_out: int, seed: int = 0) -> PromptSet:
    """Splits distinct prompts into train and held-out ones by a seeded shuffle; keeps the given order within each.

    Repeated prompts and empty lines are dropped. Raises ValueError when nothing would be left to train on.
    """
    distinct = list(dict.fromkeys(line.strip() for line in prompts if line.strip()))
    if not distinct:
        raise ValueError("The prompt list is empty: write one prompt a line.")
    if held_out >= len(distinct):
        raise ValueError(
            f"{held_out} of {len(distinct)} prompts are to be held out, which leaves none to train on: "
            "hold out fewer or add prompts."
        )
    kept_back = set(Random(seed).sample(range(len(distinct)), held_out))
    return PromptSet(
        train=tuple(p for i, p in enumerate(distinct) if i not in kept_back),
        held_out=tuple(p for i, p in enumerate(distinct) if i in kept_back),
    )
