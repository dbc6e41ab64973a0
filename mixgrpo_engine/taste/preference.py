"""A preference model: what choices among images say of their features.

Bradley-Terry on pairs: P(a is chosen over b) = sigmoid(w (f_a - f_b)), with a linear w over scaled features, an
ensemble over resampled sheets for its doubt, and cross-validation by prompt for the truth about it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..records import tensor_files
from ..rewards.comparison import win_rate
from .votes import Order, pairs

MEMBERS = 8  # of the ensemble
FOLDS = 5
PENALTY = 1.0  # of |w|^2 / 2, against the sum over pairs: a standard normal belief about each scaled weight
BLOCK = 16.0  # features that a block counts as, however many it has
FEW, ENOUGH = 20, 40  # votes from which it is worth asking, and from which more help little
FAR = 3.0  # spreads of the images voted on
LEAST_REACH = 0.01
TENSORS = ("centre", "scale", "weights", "reach")


@dataclass(frozen=True)
class Choices:
    """Votes as a model sees them: pairs of rows of one table of features."""

    better: Tensor  # int64 (pairs,)
    worse: Tensor  # int64 (pairs,)
    sheets: Tensor  # int64 (pairs,), the sheet's number
    prompts: Tensor  # int64 (sheets,), the number of each sheet's prompt
    rows: Tensor  # int64 (shown images,), all rows that were shown
    sheet_of_row: Tensor  # int64 (shown images,)

    @property
    def votes(self) -> int:
        """Sheets that say something."""
        return len(self.sheets.unique())


def choices(voted: Sequence[tuple[str, Sequence[int], Order]]) -> Choices:
    """voted: (prompt, row of each of the sheet's images in the table of features, answer) of each sheet."""
    numbers = {prompt: number for number, prompt in enumerate(dict.fromkeys(prompt for prompt, _, _ in voted))}
    found = [
        (rows[better], rows[worse], number)
        for number, (_, rows, order) in enumerate(voted)
        for better, worse in pairs(order)
    ]
    better, worse, sheets = torch.tensor(found, dtype=torch.int64).reshape(-1, 3).unbind(1)
    shown = [(row, number) for number, (_, rows, _) in enumerate(voted) for row in rows]
    rows_shown, sheet_of_row = torch.tensor(shown, dtype=torch.int64).reshape(-1, 2).unbind(1)
    prompts = torch.tensor([numbers[prompt] for prompt, _, _ in voted], dtype=torch.int64)
    return Choices(better, worse, sheets, prompts, rows_shown, sheet_of_row)


@dataclass
class Preference:
    """A fitted model. Its scores are log-odds: a difference of 1 is chosen 73 times in 100."""

    blocks: dict[str, int]  # name of a block of features -> how many
    centre: Tensor  # (features,), mean over the images voted on
    scale: Tensor  # (features,), what a feature is multiplied with
    weights: Tensor  # (members, features)
    reach: Tensor  # (features,), the spread of the images voted on
    votes: int = 0
    accuracy: dict | None = None  # cross_validated() of these votes

    def score(self, features: Tensor) -> Tensor:
        """features: (images, features); the ensemble's mean, float32 (images,)."""
        return self._by_member(features).mean(0).float()

    def doubt(self, features: Tensor) -> Tensor:
        """How far the members disagree about each image, beside what they disagree about all: float32 (images,)."""
        scores = self._by_member(features)
        return (scores - scores.mean(1, keepdim=True)).std(0).float()

    def distance(self, features: Tensor) -> Tensor:
        """How far images lie from those voted on, 1 for a typical one of them: float32 (images,)."""
        return ((features.double() - self.centre) / self.reach).square().mean(1).sqrt().float()

    def save(self, path: Path) -> None:
        """As safetensors."""
        tensors = {name: getattr(self, name) for name in TENSORS}
        about = {"blocks": self.blocks, "votes": self.votes, "accuracy": self.accuracy}
        tensor_files.save(tensors, path, {"taste": json.dumps(about)})

    @classmethod
    def load(cls, path: Path) -> Preference:
        """Raises ValueError with one sentence for a file that isn't one."""
        try:
            with safe_open(path, "pt") as file:
                about = json.loads(file.metadata()["taste"])
                tensors = {name: file.get_tensor(name) for name in TENSORS}
            loaded = cls(**tensors, **about)
            if loaded.weights.shape[1:] != (sum(loaded.blocks.values()),):
                raise ValueError
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise ValueError(f"{path} is no learned taste ({error}): learn it anew from its votes.") from error
        return loaded

    def _scaled(self, features: Tensor) -> Tensor:
        return (features.double() - self.centre) * self.scale

    def _by_member(self, features: Tensor) -> Tensor:
        return self.weights @ self._scaled(features).T


def fit(features: Tensor, blocks: Mapping[str, int], chosen: Choices, seed: int = 0) -> Preference:
    """features: (rows, features), the blocks side by side. Raises ValueError when no pair was chosen."""
    if not len(chosen.better):
        raise ValueError("There is no vote to learn from yet: choose a best image first.")
    features = features.double()
    shown = features[chosen.rows]
    centre, scale = shown.mean(0), _scale(shown, chosen.sheet_of_row, blocks)
    scaled = (features - centre) * scale
    differences = scaled[chosen.better] - scaled[chosen.worse]
    generator = torch.Generator().manual_seed(seed)
    sheets = chosen.sheets.unique()
    weights = [_maximum(differences, torch.ones(len(differences), dtype=torch.float64))]
    for _ in range(MEMBERS - 1):
        drawn = sheets[torch.randint(len(sheets), (len(sheets),), generator=generator)]
        times = torch.bincount(drawn, minlength=int(chosen.sheets.max()) + 1)[chosen.sheets].double()
        weights.append(_maximum(differences, times))
    # What none of them differs in counts, too: an image that does differ there is unlike all of them.
    reach = shown.std(0, correction=0).clamp(min=LEAST_REACH)
    return Preference(dict(blocks), centre, scale, torch.stack(weights), reach, chosen.votes)


def cross_validated(features: Tensor, blocks: Mapping[str, int], chosen: Choices, seed: int = 0) -> dict | None:
    """How many of the choices about prompts that it hasn't seen a fitted model gets right.

    {"mean", "low", "high"}: share of pairs, mean over prompts, and its 95% interval. None with fewer than two prompts.
    """
    prompts = chosen.prompts[chosen.sheets]
    different = prompts.unique()
    if len(different) < 2:
        return None
    order = different[torch.randperm(len(different), generator=torch.Generator().manual_seed(seed))]
    right = torch.zeros(len(prompts), dtype=torch.float64)
    for part in order.tensor_split(min(FOLDS, len(order))):
        unseen = torch.isin(prompts, part)
        rest = Choices(
            chosen.better[~unseen], chosen.worse[~unseen], chosen.sheets[~unseen], chosen.prompts, chosen.rows,
            chosen.sheet_of_row,
        )  # fmt: skip
        scores = fit(features, blocks, rest, seed).score(features)
        gap = scores[chosen.better[unseen]] - scores[chosen.worse[unseen]]
        right[unseen] = (gap > 0).double() + 0.5 * (gap == 0).double()
    return win_rate(torch.stack([right[prompts == prompt].mean() for prompt in different]))


def in_words(votes: int, accuracy: Mapping[str, float | None] | None) -> str:
    """What people should know of a taste that was learned from so many votes."""
    if not accuracy or accuracy["low"] is None or accuracy["high"] is None:
        return f"{votes} votes: too few to say how well they are understood. Vote on more prompts."
    mean, low, high = (round(100 * float(accuracy[name] or 0)) for name in ("mean", "low", "high"))
    told = f"right on {mean}% ({low} to {high}) of votes it hasn't seen"
    if low <= 50:
        return f"{votes} votes, {told}: hardly better than chance. {max(FEW, ENOUGH - votes)} more would help."
    more = f"; {ENOUGH - votes} more would help" if votes < ENOUGH else ""
    return f"{votes} votes, {told}{more}."


def _scale(shown: Tensor, sheet_of_row: Tensor, blocks: Mapping[str, int]) -> Tensor:
    """1 over the spread inside sheets, which is all that choices see; blocks of many features weigh no more."""
    count = int(sheet_of_row.max()) + 1
    sums = torch.zeros(count, shown.shape[1], dtype=shown.dtype).index_add_(0, sheet_of_row, shown)
    means = sums / torch.bincount(sheet_of_row, minlength=count).clamp(min=1)[:, None]
    spread = (shown - means[sheet_of_row]).square().mean(0).sqrt()
    sizes = torch.tensor([float(size) for size in blocks.values() for _ in range(size)], dtype=shown.dtype)
    known = spread > 1e-6 * (1 + shown.abs().mean(0))
    return torch.where(known, (BLOCK / sizes).clamp(max=1).sqrt() / torch.where(known, spread, 1.0), 0.0)


def _maximum(differences: Tensor, times: Tensor) -> Tensor:
    """The most likely weights: Newton's steps on sum(times * softplus(-d w)) + PENALTY |w|^2 / 2, which is convex."""
    weights = differences.new_zeros(differences.shape[1])
    identity = PENALTY * torch.eye(len(weights), dtype=weights.dtype)
    for _ in range(50):
        chance = torch.sigmoid(differences @ weights)
        gradient = differences.T @ (times * (chance - 1)) + PENALTY * weights
        curvature = (differences * (times * chance * (1 - chance))[:, None]).T @ differences + identity
        step = torch.linalg.solve(curvature, gradient)
        weights = weights - step * min(1.0, 5.0 / float(step.norm().clamp(min=1e-12)))
        if float(step.norm()) < 1e-9:
            break
    return weights
