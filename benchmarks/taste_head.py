"""How well a taste is learned from so many votes of a scripted voter, on groups of held-out prompts."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from mixgrpo_engine.rewards.taste import SHOWN
from mixgrpo_engine.taste.features import PictureStatistics
from mixgrpo_engine.taste.preference import Preference, agreed, choices, cross_validated, fit
from mixgrpo_engine.taste.votes import Order

from .taste_groups import Group, shown_of
from .taste_voter import TASTES, Voter

VOTES = (10, 20, 40, 80, 160)
DIFFERENT = 0.1  # of a true score from 0 to 1: pairs that differ less aren't counted
ANEW = 10  # votes after which an active choice fits anew
BLOCKS = {**PictureStatistics.blocks, "prompt fit": 8}


def measure(taste: str, seed: int, shown: Sequence[Group], new: Sequence[Group], active: bool) -> list[dict]:
    """One row a number of votes. new: groups of other prompts. active: the images are shown that it is least sure of.

    right: see right(). agrees: the share of this voter's choices on the new groups that it would make, too; told: its
    own estimate of that. seconds: to fit and to estimate.
    """
    voter = Voter(TASTES[taste], seed)
    rows: list[dict] = []
    learned: Preference | None = None
    before, after = Asked(voter), Asked(voter)
    for group in new:
        after.ask(group, shown_of(group.images))
    truth = [voter.taste.score(group.images, [group.prompt] * len(group.images)) for group in new]
    for group in shown:
        places = shown_of(group.images)
        if active and learned is not None:
            places = learned.least_sure(group.features, SHOWN)
        said_more = before.ask(group, places)
        votes = len(before.voted)
        if not said_more or (votes not in VOTES and not (active and votes % ANEW == 0)):
            continue
        features, chosen, started = torch.cat(before.features), choices(before.voted), time.process_time()
        learned = fit(features, BLOCKS, chosen)
        if votes in VOTES:
            told = cross_validated(features, BLOCKS, chosen)
            seconds = time.process_time() - started
            found = {"right": right(learned, new, truth), "agrees": after.agreement(learned), "told": told}
            rows.append({"votes": votes, "active": active, **found, "seconds": seconds})
    return rows


class Asked:
    """What a voter has answered, as fit() wants it."""

    def __init__(self, voter: Voter) -> None:
        self.voter = voter
        self.voted: list[tuple[str, list[int], Order]] = []
        self.features: list[Tensor] = []

    def ask(self, group: Group, places: Tensor) -> bool:
        """Whether it was answered."""
        order = self.voter.order(group.images[places], group.prompt, f"{group.prompt} {places.tolist()}")
        if order is not None:
            first = len(self.voted) * len(places)
            self.voted.append((group.prompt, list(range(first, first + len(places))), order))
            self.features.append(group.features[places])
        return order is not None

    def agreement(self, learned: Preference) -> float:
        """The share of the choices that it would make, too."""
        chosen = choices(self.voted)
        return float(agreed(learned.score(torch.cat(self.features)), chosen).mean())


def right(learned: Preference, groups: Sequence[Group], truth: Sequence[Tensor]) -> float:
    """The share of clearly different pairs of a group that are ordered rightly, mean over the groups."""
    shares = []
    for group, true in zip(groups, truth, strict=True):
        scores = learned.score(group.features)
        better = true[:, None] - true > DIFFERENT
        if better.any():
            shares.append((scores[:, None] > scores)[better].float().mean())
    return float(torch.stack(shares).mean())
