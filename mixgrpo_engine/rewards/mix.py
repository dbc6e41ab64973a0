"""Several scorers as one: what is wanted is rarely what one of them measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from . import Reward, check_reward, checked_scores, failures, remarks
from .references import References, uses_references

NORMALISATIONS = ("none", "batch")

# Of the largest score: float32 can't tell smaller differences from its own rounding.
MIN_RELATIVE_SPREAD = 1e-6


class RewardMix:
    """A weighted mean of scorers. Training takes them apart: each gets advantages of its own (see parts())."""

    name = "mix"

    def __init__(
        self, rewards: Mapping[str, Reward], weights: Mapping[str, float], normalisation: str = "none"
    ) -> None:
        """rewards: by the name they are reported under. weights: of each, at least 0; they are divided by their sum.

        normalisation: "none" takes the scores as they are; "batch" gives each scorer mean 0 and standard deviation 1
        over the images of a call, so that scales don't matter. Raises ValueError for anything else.
        """
        if normalisation not in NORMALISATIONS:
            raise ValueError(f"normalisation is '{normalisation}': it must be one of {', '.join(NORMALISATIONS)}.")
        if not rewards or rewards.keys() != weights.keys():
            raise ValueError("A mix needs at least one reward, and one weight for each.")
        if any(not weight >= 0 for weight in weights.values()) or not 0 < sum(weights.values()) < float("inf"):
            raise ValueError(f"weights are {dict(weights)}: none may be below 0, and one must be above it.")
        self.rewards, self.weights, self.normalisation = dict(rewards), dict(weights), normalisation
        self.failures: list[str] = []
        self.remarks: list[str] = []

    @property
    def uses_references(self) -> bool:
        return any(map(uses_references, self.rewards.values()))

    @property
    def needed_references(self) -> tuple[str, ...]:
        needed = (name for reward in self.rewards.values() for name in getattr(reward, "needed_references", ()))
        return tuple(dict.fromkeys(needed))

    def score(self, images: Tensor, prompts: Sequence[str], references: Sequence[References] | None = None) -> Tensor:
        """float32 (batch,); NaN where a scorer with a weight above 0 has failed."""
        return self.combine(self.score_parts(images, prompts, references))

    def score_parts(
        self, images: Tensor, prompts: Sequence[str], references: Sequence[References] | None = None
    ) -> dict[str, Tensor]:
        """name -> float32 (batch,): the scorers' own scores. Raises ValueError as checked_scores() does."""
        scores, self.failures, self.remarks = {}, [], []
        for name, reward in self.rewards.items():
            scores[name] = checked_scores(reward, images, prompts, references)
            self.failures += [f"{name}: {reason}" for reason in failures(reward)]
            self.remarks += [f"{name}: {remark}" for remark in remarks(reward)]
        return scores

    def combine(self, scores: Mapping[str, Tensor]) -> Tensor:
        """The weighted mean of scores such as score_parts() gives, float32 (batch,)."""
        total = sum(self.weights.values())
        mean = sum(
            weight / total * (_standardised(scores[name]) if self.normalisation == "batch" else scores[name])
            for name, weight in self.weights.items()
            if weight > 0
        )
        assert isinstance(mean, Tensor)  # a weight is above 0
        return mean


def parts(reward: Reward) -> tuple[dict[str, Reward], dict[str, float]]:
    """(scorers by name, their weights) of a mix, or of a single scorer."""
    if isinstance(reward, RewardMix):
        return dict(reward.rewards), dict(reward.weights)
    check_reward(reward)
    return {reward.name: reward}, {reward.name: 1.0}


def mix(entries: Sequence[tuple[Reward, float]], normalisation: str = "none") -> RewardMix:
    """A mix of (scorer or mix, weight). A mix inside is taken apart: its weight is shared among its scorers.

    Its normalisation gives way to this one. Scorers of the same name are told apart by a number: "judge", "judge 2".
    Raises ValueError for an entry that isn't a reward, and as RewardMix does.
    """
    rewards: dict[str, Reward] = {}
    weights: dict[str, float] = {}
    for reward, weight in entries:
        check_reward(reward)
        inner, shares = parts(reward)
        total = sum(shares.values())
        for name, scorer in inner.items():
            # The "judge 2" of an inner mix is one more judge, not another scorer's name.
            numbered = name.removeprefix(f"{scorer.name} ").isdigit()
            free = _free_name(scorer.name if numbered else name, rewards)
            rewards[free], weights[free] = scorer, weight * shares[name] / total
    return RewardMix(rewards, weights, normalisation)


def _free_name(name: str, taken: Mapping) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name} {number}"
    return free


def _standardised(scores: Tensor) -> Tensor:
    """Mean 0 and standard deviation 1 over the finite scores; all 0 when they differ by no more than rounding."""
    finite = scores[scores.isfinite()]
    if not len(finite):
        return scores
    centred = scores - finite.mean()
    spread = finite.std(correction=0)
    return centred / spread if spread > MIN_RELATIVE_SPREAD * finite.abs().max() else centred * 0
