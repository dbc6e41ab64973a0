"""Scripted voters: what they like, and how they answer what they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from mixgrpo_engine import seeds
from mixgrpo_engine.rewards import Reward
from mixgrpo_engine.rewards.shapes import ShapesReward, look
from mixgrpo_engine.taste.votes import Order, Sheet, VoteSet

WRONG = 0.1  # of the votes are given blindly
CLEAR = 0.02  # a sheet whose best and worst image differ less is skipped
FULL = 0.3  # of the picture: what is that large counts as large


class LargeBlueLeft:
    """A taste that no built-in reward knows, and that the prompt means nothing to: large, blue, left; 0 to 1."""

    name = "large, blue, left"

    def score(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        return torch.tensor([self._of(image) for image in images])

    def _of(self, image: Tensor) -> float:
        objects = look((image * 255).numpy()).objects
        area = sum(each.size**2 for each in objects)
        if not area:
            return 0.0
        blue = sum(each.size**2 for each in objects if each.color == "blue") / area
        left = 1 - sum(each.size**2 * each.x for each in objects) / area
        return (min(1.0, area / FULL) + blue + left) / 3


TASTES: dict[str, Reward] = {each.name: each for each in (ShapesReward(), LargeBlueLeft())}


class Voter:
    """Picks the best and the worst by a taste; the same sheet gets the same answer."""

    def __init__(self, taste: Reward, seed: int) -> None:
        self.taste, self.seed = taste, seed

    def order(self, images: Tensor, prompt: str, sheet: str) -> Order | None:
        """None: skipped, for they are all alike. sheet: its id."""
        scores = self.taste.score(images, [prompt] * len(images))
        if float(scores.max() - scores.min()) < CLEAR:
            return None
        generator = seeds.generator(self.seed, "voter", sheet)
        if float(torch.rand((), generator=generator)) < WRONG:
            scores = torch.rand(len(images), generator=generator)
        places = scores.argsort(descending=True).tolist()
        return (
            ((places[0],), tuple(sorted(places[1:-1])), (places[-1],))
            if len(places) > 2
            else tuple((p,) for p in places)
        )


class AnsweredVotes(VoteSet):
    """A set whose voter answers each sheet as soon as it is shown."""

    def __init__(self, folder: Path, voter: Voter) -> None:
        super().__init__(folder)
        self.voter = voter

    def add(self, images: Tensor, prompt: str, source: str = "") -> Sheet:
        sheet = super().add(images, prompt, source)
        state = self.read()
        if sheet.id not in state.answers and sheet.id not in state.skipped:
            order = self.voter.order(images, prompt, sheet.id)
            if order is None:
                self.skip(sheet.id)
            else:
                self.vote(sheet.id, order)
        return sheet
