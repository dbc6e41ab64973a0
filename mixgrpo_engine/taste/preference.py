"""A preference model: what choices among images say of their features.

Bradley-Terry on pairs: P(a is chosen over b) = sigmoid(w (f_a - f_b)), with a linear w over scaled features, an
ensemble over resampled sheets for its doubt, and cross-validation by prompt for the truth about it. How much a block of
features may matter is what the votes make most likely (MacKay, "Bayesian interpolation", 1992): one that the voter
doesn't look at would only add noise, and a training would climb the noise.
"""

from __future__ import annotations

import dataclasses
import json
import math
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
SHARES = (0.1, 0.3, 1.0)  # of a block: how far its weights may be from 0
ROUNDS = 2  # of choosing a share for each block in turn
SMALL = 1e-6  # a step of Newton's: the error after it is of the order of its square
FEW, ENOUGH = 20, 40  # votes from which it is worth asking, and from which more help little
FAR = 3.0  # spreads of the images voted on
RECENT, ABOVE = 96, 1 / 8  # of so many images this share may score above all images voted on
LEAST_REACH = 0.01
TENSORS = ("centre", "scale", "weights", "reach")


@dataclass(frozen=True)
class Choices:
    """Votes as a model sees them: pairs of rows of one table of features."""

    better: Tensor  # int64 (pairs,)
    worse: Tensor  # int64 (pairs,)
    times: Tensor  # float64 (pairs,), how often a pair counts: those of a sheet say no more than its images less one
    sheets: Tensor  # int64 (pairs,), the sheet's number
    prompts: Tensor  # int64 (sheets,), the number of each sheet's prompt
    rows: Tensor  # int64 (shown images,), all rows that were shown
    sheet_of_row: Tensor  # int64 (shown images,)

    @property
    def votes(self) -> int:
        """Sheets that say something."""
        return len(self.sheets.unique())

    def where(self, kept: Tensor) -> Choices:
        """Those pairs; all that was shown stays."""
        parts = {name: getattr(self, name)[kept] for name in ("better", "worse", "times", "sheets")}
        return dataclasses.replace(self, **parts)


def choices(voted: Sequence[tuple[str, Sequence[int], Order]]) -> Choices:
    """voted: (prompt, row of each of the sheet's images in the table of features, answer) of each sheet."""
    numbers = {prompt: number for number, prompt in enumerate(dict.fromkeys(prompt for prompt, _, _ in voted))}
    found = [
        (rows[better], rows[worse], number, (sum(map(len, order)) - 1) / len(said))
        for number, (_, rows, order) in enumerate(voted)
        for said in [pairs(order)]
        for better, worse in said
    ]
    better, worse, sheets = torch.tensor([each[:3] for each in found], dtype=torch.int64).reshape(-1, 3).unbind(1)
    times = torch.tensor([each[3] for each in found], dtype=torch.float64)
    shown = [(row, number) for number, (_, rows, _) in enumerate(voted) for row in rows]
    rows_shown, sheet_of_row = torch.tensor(shown, dtype=torch.int64).reshape(-1, 2).unbind(1)
    prompts = torch.tensor([numbers[prompt] for prompt, _, _ in voted], dtype=torch.int64)
    return Choices(better, worse, times, sheets, prompts, rows_shown, sheet_of_row)


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
    highest: float = math.inf  # score of an image voted on

    def score(self, features: Tensor) -> Tensor:
        """features: (images, features); the ensemble's mean, float32 (images,)."""
        return self._by_member(features).mean(0).float()

    def doubt(self, features: Tensor) -> Tensor:
        """How far the members disagree about each image, beside what they disagree about all: float32 (images,)."""
        scores = self._by_member(features)
        return (scores - scores.mean(1, keepdim=True)).std(0).float()

    def least_sure(self, features: Tensor, count: int) -> Tensor:
        """Places of the images with the most doubt, in their order."""
        return self.doubt(features).argsort(descending=True, stable=True)[:count].sort().values

    def distance(self, features: Tensor) -> Tensor:
        """How far images lie from those voted on, 1 for a typical one of them: float32 (images,)."""
        return ((features.double() - self.centre) / self.reach).square().mean(1).sqrt().float()

    def save(self, path: Path) -> None:
        """As safetensors."""
        tensors = {name: getattr(self, name) for name in TENSORS}
        about = {"blocks": self.blocks, "votes": self.votes, "accuracy": self.accuracy, "highest": self.highest}
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
    scale = scale * _shares(features * scale, chosen, blocks)
    scaled = features * scale
    generator = torch.Generator().manual_seed(seed)
    sheets = chosen.sheets.unique()
    weights = [_maximum(scaled, chosen)[0]]
    for _ in range(MEMBERS - 1):
        drawn = sheets[torch.randint(len(sheets), (len(sheets),), generator=generator)]
        often = torch.bincount(drawn, minlength=int(chosen.sheets.max()) + 1)[chosen.sheets]
        again = dataclasses.replace(chosen, times=often * chosen.times).where(often > 0)
        weights.append(_maximum(scaled, again, weights[0])[0])
    # What none of them differs in counts, too: an image that does differ there is unlike all of them.
    reach = shown.std(0, correction=0).clamp(min=LEAST_REACH)
    learned = Preference(dict(blocks), centre, scale, torch.stack(weights), reach, chosen.votes)
    learned.highest = float(learned.score(shown).max())
    return learned


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
        scores = fit(features, blocks, chosen.where(~unseen), seed).score(features)
        right[unseen] = agreed(scores, chosen.where(unseen))
    return win_rate(torch.stack([right[prompts == prompt].mean() for prompt in different]))


def agreed(scores: Tensor, chosen: Choices) -> Tensor:
    """float64 (pairs,): 1 where the better image scores higher, too, 0.5 where they are equal. scores: (rows,)."""
    gap = scores[chosen.better] - scores[chosen.worse]
    return (gap > 0).double() + 0.5 * (gap == 0).double()


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


def _shares(scaled: Tensor, chosen: Choices, blocks: Mapping[str, int]) -> Tensor:
    """(features,): of each block the share of SHARES with the most evidence, the others' being what they are."""
    sizes = torch.tensor(list(blocks.values()))
    best = (SHARES[len(SHARES) // 2],) * len(sizes)
    tried: dict[tuple[float, ...], float] = {}
    weights = None
    for _ in range(ROUNDS):
        for block in range(len(sizes)):
            near = [(*best[:block], share, *best[block + 1 :]) for share in SHARES]
            for shares in near:
                if shares not in tried:
                    each = torch.tensor(shares, dtype=scaled.dtype).repeat_interleave(sizes)
                    weights, tried[shares] = _maximum(scaled * each, chosen, weights)
            best = max(near, key=tried.__getitem__)
    return torch.tensor(best, dtype=scaled.dtype).repeat_interleave(sizes)


def _maximum(scaled: Tensor, chosen: Choices, start: Tensor | None = None) -> tuple[Tensor, float]:
    """The most likely weights, and the log of the choices' probability whatever the weights, but for a constant.

    Newton's steps, from start on, on sum(times * softplus(-d w)) + PENALTY |w|^2 / 2, which is convex; then Laplace's
    approximation. A step is solved among the features, or among the differences between images where they are fewer
    (Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, 3.4.1): the determinant is the same.
    """
    differences, better, worse = _differences(scaled, chosen)

    def by_pair(values: Tensor) -> Tensor:
        return values[better] - values[worse]

    among_features = scaled.shape[1] <= len(differences)
    space = torch.eye(scaled.shape[1], dtype=scaled.dtype) if among_features else differences.T
    seen = by_pair(differences @ space)

    def gathered(values: Tensor) -> Tensor:
        """What the pairs' values say of the space."""
        if among_features:
            return seen.T @ values
        zeros = values.new_zeros(len(differences), *values.shape[1:])
        return zeros.index_add_(0, better, values).index_add_(0, worse, -values)

    identity = PENALTY * torch.eye(space.shape[1], dtype=scaled.dtype)

    def likely(weights: Tensor) -> Tensor:
        chosen_so = (chosen.times * torch.nn.functional.logsigmoid(by_pair(differences @ weights))).sum()
        return chosen_so - PENALTY * weights.square().sum() / 2

    weights = scaled.new_zeros(scaled.shape[1]) if start is None else start
    for _ in range(50):
        odds = by_pair(differences @ weights)
        wrong = torch.sigmoid(-odds)
        system = identity + gathered((chosen.times * wrong * (1 - wrong))[:, None] * seen)
        aim = gathered(chosen.times * wrong * (1 + (1 - wrong) * odds))
        step = space @ torch.linalg.solve(system, aim) - weights
        while (size := float(step.norm())) > SMALL and likely(weights + step) < likely(weights):
            step = step / 2
        weights = weights + step
        if size <= SMALL:
            break
    return weights, float(likely(weights) - torch.linalg.slogdet(system / PENALTY).logabsdet / 2)


def _differences(scaled: Tensor, chosen: Choices) -> tuple[Tensor, Tensor, Tensor]:
    """All that choices can see: each judged image of a sheet less the sheet's first, (differences, features).

    And of each pair the better's and the worse's place among them; the first images' is the last, which is 0.
    """
    judged = torch.cat((chosen.better, chosen.worse))
    images, places = (chosen.sheets.repeat(2) * len(scaled) + judged).unique(return_inverse=True)
    sheets, rows = images // len(scaled), images % len(scaled)
    first = torch.searchsorted(sheets, sheets)
    others = first != torch.arange(len(sheets))
    numbers = torch.where(others, others.cumsum(0) - 1, others.sum())
    differences = torch.cat(((scaled[rows] - scaled[rows[first]])[others], scaled.new_zeros(1, scaled.shape[1])))
    better, worse = numbers[places].chunk(2)
    return differences, better, worse
