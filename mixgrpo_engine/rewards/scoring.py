"""Scores many images at once, and keeps what each scorer said."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..memory.micro_batches import is_out_of_memory
from . import Reward, asking, check_batch, checked_scores, failures, remarks
from .mix import RewardMix, parts
from .references import References

REASONS_TOLD = 2  # of the sentences of a scorer about some images


@dataclass
class ScoresByName:
    """What several scorers say of the same images."""

    values: dict[str, Tensor]  # scorer -> float32 (images,), on the CPU; NaN: no score
    failures: dict[str, list[str]]  # scorer -> why there is none, sentences
    remarks: list[str] = field(default_factory=list)  # what else they say

    def means(self) -> dict[str, float]:
        """scorer -> the mean of its scores, failed ones left out; NaN without any."""
        return {name: float(values.nanmean()) for name, values in self.values.items()}


@torch.no_grad()
def score_by_each(
    rewards: Mapping[str, Reward],
    images: Tensor,
    prompts: Sequence[str],
    ask: Callable[[], None] = lambda: None,
    references: Sequence[References] | None = None,
) -> ScoresByName:
    """Scores by every scorer; NaN where one failed, gave infinity, or got an image that isn't finite.

    images: float (images, height, width, 3) in 0..1. ask: called by scorers that take long; may raise to stop them.
    references: one an image. Raises ValueError as checked_scores() does, RuntimeError for a scorer that runs out of
    memory.
    """
    scores = ScoresByName({}, {})
    with asking(ask):
        for name, reward in rewards.items():
            try:
                scores.values[name] = checked_scores(reward, images, prompts, references)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                # Another kind of error: whoever samples these images in smaller parts can't help a scorer.
                raise RuntimeError(
                    f"Out of memory in the reward '{name}' with {len(images)} images: lower its batch_size or set its "
                    f"device to cpu, where it has such settings, or free memory on its device. ({error})"
                ) from error
            scores.failures[name] = failures(reward)
            scores.remarks += remarks(reward)
    return scores


def and_why(reasons: Sequence[str]) -> str:
    """The first few different reasons as one text."""
    different = list(dict.fromkeys(reasons))
    more = f" (and {len(different) - REASONS_TOLD} other reasons)" if len(different) > REASONS_TOLD else ""
    return " ".join(different[:REASONS_TOLD]) + more


@dataclass(frozen=True)
class Scored:
    """What a reward said of images; all tensors are float32 (images,), NaN where scoring failed."""

    name: str
    total: Tensor
    # By scorer: its own scores, and its share of the total (they sum to 1). A reward that is no mix is its only part.
    parts: dict[str, Tensor]
    shares: dict[str, float]
    # Why some have failed, one sentence each.
    reasons: tuple[str, ...]
    # What else they say, one sentence each.
    remarks: tuple[str, ...]


def score_images(
    reward: Reward,
    batches: Sequence[Tensor],
    prompts: Sequence[str],
    references: Sequence[References] | None = None,
) -> Scored:
    """batches: each float (images, height, width, 3) in 0..1, of one size; prompts and references: one an
    image, over all batches.

    The reward is called once for each size. Raises ValueError for what isn't a reward, and as checked_scores does.
    """
    scorers, weights = parts(reward)
    mixed = reward if isinstance(reward, RewardMix) else RewardMix(scorers, weights)
    counts = [len(batch) for batch in batches]
    if sum(counts) != len(prompts):
        raise ValueError(f"{sum(counts)} images, but {len(prompts)} prompts")
    scores = {name: torch.full((len(prompts),), torch.nan) for name in scorers}
    reasons: list[str] = []
    said: list[str] = []
    for places in _places_by_size(batches).values():
        starts = [sum(counts[:place]) for place in places]
        rows = [row for place, start in zip(places, starts, strict=True) for row in range(start, start + counts[place])]
        images = batches[places[0]] if len(places) == 1 else torch.cat([batches[place] for place in places])
        given = None if references is None else [references[row] for row in rows]
        for name, values in mixed.score_parts(images, [prompts[row] for row in rows], given).items():
            scores[name][rows] = values
        reasons += mixed.failures
        said += mixed.remarks
    total, remarked = combine(reward, scores), tuple(dict.fromkeys(said))
    return Scored(reward.name, total, scores, _shares(weights), _explained(scores, reasons), remarked)


def combine(reward: Reward, scores: Mapping[str, Tensor]) -> Tensor:
    """The total of scores by part: float32 (images,). For a mix that normalises, over all images that are given."""
    return reward.combine(scores) if isinstance(reward, RewardMix) else scores[reward.name]


def ranking(scores: Tensor) -> list[int]:
    """Places of the scores, best first; of equal ones the first comes first, and failed ones (NaN) are left out."""
    known = [(-float(value), place) for place, value in enumerate(scores) if torch.isfinite(value)]
    return [place for _, place in sorted(known)]


def _places_by_size(batches: Sequence[Tensor]) -> dict[tuple, list[int]]:
    places: dict[tuple, list[int]] = {}
    for place, batch in enumerate(batches):
        check_batch(batch, [""] * len(batch))
        if len(batch):
            places.setdefault(tuple(batch.shape[1:]), []).append(place)
    return places


def _shares(weights: Mapping[str, float]) -> dict[str, float]:
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def _explained(scores: Mapping[str, Tensor], reasons: Sequence[str]) -> tuple[str, ...]:
    """The scorers' reasons, and a sentence for each that failed without one."""
    silent = [
        f"{name}: no score for {int(values.isnan().sum())} of {len(values)} images, and no reason given."
        for name, values in scores.items()
        if values.isnan().any() and not any(reason.startswith(f"{name}: ") for reason in reasons)
    ]
    return tuple(dict.fromkeys([*reasons, *silent]))
