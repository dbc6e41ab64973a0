"""What a run's log says of its held-out evaluations so far, and how much an evaluation differs from the first one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from ..records.events import of_types
from ..rewards.comparison import compare


class History:
    """Read from the log once, and kept up to date."""

    def __init__(self, log: Path, decide: Callable[[Mapping[str, float | None]], float]) -> None:
        """decide(mean scores by name): the one number that tells a better LoRA, NaN for none."""
        self._decide = decide
        self.best = -math.inf
        self.evaluated: set[int] = set()  # iterations
        self.sampled: set[int] = set()
        self.steps: int | None = None  # that the run's held-out images are sampled by; None before the first
        self._first: dict | None = None
        for event in of_types(log, "evaluation", "sample"):
            self.add(event)

    def add(self, event: dict) -> None:
        """An event as it stands in the log, of one of these two types."""
        if event["type"] == "sample":
            self.sampled.add(event["iteration"])
            return
        self.evaluated.add(event["iteration"])
        score = self._decide(event["reward"])
        self.best = max(self.best, score) if math.isfinite(score) else self.best
        self._first = self._first or event
        self.steps = self._first.get("steps", 0)  # logs of older versions don't tell: they knew only the training's own

    def change(self, score: float, scores: Sequence[float | None], each: int) -> tuple[float | None, float | None]:
        """(change since the first evaluation, half the width of its 95% interval) of an evaluation.

        score, scores: its mean and its images', `each` of them a prompt, side by side. The same prompts and noises are
        compared, so that only what has been learned differs. Logs of older versions hold no images' scores, and another
        number of images has other noises: then the means are compared, without an interval. None where nothing can be
        told.
        """
        if self._first is None:
            return None, None
        before = self._first.get("scores") or []
        if len(before) == len(scores):
            return paired_change(before, scores, each)
        change = score - self._decide(self._first["reward"])
        return (change if math.isfinite(change) else None), None


def paired_change(
    before: Sequence[float | None], after: Sequence[float | None], each: int
) -> tuple[float | None, float | None]:
    """(mean change, half the width of its 95% interval) over prompts with `each` images side by side, as compare()."""
    first, last = (torch.tensor([math.nan if score is None else score for score in of]) for of in (before, after))
    difference = compare(first.double().reshape(-1, each), last.double().reshape(-1, each))["difference"]
    if difference is None:
        return None, None
    return difference["mean"], None if difference["high"] is None else difference["high"] - difference["mean"]


def rounded(value: float) -> float | None:
    """To 5 digits; None for what isn't finite."""
    return float(f"{value:.5g}") if math.isfinite(value) else None
