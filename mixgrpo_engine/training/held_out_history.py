"""What a run's log says of its held-out evaluations so far, and how much an evaluation differs from the first one."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..records.events import of_types

CONFIDENCE = 1.96  # standard errors to each side: 95% of a normal distribution


class History:
    """Read from the log once, and kept up to date."""

    def __init__(self, log: Path, decide: Callable[[Mapping[str, float | None]], float]) -> None:
        """decide(mean scores by name): the one number that tells a better LoRA, NaN for none."""
        self._decide = decide
        self.best = -math.inf
        self.evaluated: set[int] = set()  # iterations
        self.sampled: set[int] = set()
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

    def change(self, score: float, scores: Sequence[float | None]) -> tuple[float | None, float | None]:
        """(change since the first evaluation, half the width of its 95% interval) of an evaluation.

        score, scores: its mean and its images'. The same prompts and noises are compared, so that only what has been
        learned differs. Logs of older versions hold no images' scores, and another number of images has other noises:
        then the means are compared, without an interval. None where nothing can be told.
        """
        if self._first is None:
            return None, None
        before = self._first.get("scores") or []
        if len(before) == len(scores):
            return paired_change(before, scores)
        change = score - self._decide(self._first["reward"])
        return (change if math.isfinite(change) else None), None


def paired_change(before: Sequence[float | None], after: Sequence[float | None]) -> tuple[float | None, float | None]:
    """(mean of the differences, 1.96 of its standard errors) over the pairs that both have a score."""
    differences = [b - a for a, b in zip(before, after, strict=True) if a is not None and b is not None]
    if not differences:
        return None, None
    mean = statistics.fmean(differences)
    if len(differences) < 2:
        return mean, None
    return mean, CONFIDENCE * statistics.stdev(differences) / math.sqrt(len(differences))


def rounded(value: float) -> float | None:
    """To 5 digits; None for what isn't finite."""
    return float(f"{value:.5g}") if math.isfinite(value) else None
