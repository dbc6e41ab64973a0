"""The sliding window of trained denoising steps (arXiv 2507.21802, section 3.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

STRATEGIES = ("constant", "linear_decay", "exp_decay", "random", "frozen")

# exp_decay: tau(l) = ceil(interval * exp(-RATE * max(0, l - ONSET))), the paper's constants.
EXP_DECAY_RATE = 0.1
EXP_DECAY_ONSET = 13


@dataclass(frozen=True)
class SlidingWindow:
    """Iteration -> range of step indices, always `size` wide and never holding the last step (its noise is 0).

    A pure function of the iteration, so a resume or another rank needs no state. Strategies: "constant" stays
    `interval` iterations at a place, "linear_decay" and "exp_decay" stay shorter at later places, "random" draws a
    seeded place an iteration, "frozen" never leaves the first place. At the end it stays, or starts again (wrap).
    """

    steps: int
    size: int = 4
    stride: int = 1
    interval: int = 25
    strategy: str = "constant"
    seed: int = 0
    wrap: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.size < self.steps:
            raise ValueError(f"Window size {self.size} with {self.steps} steps: it must be 1 to {self.steps - 1}.")
        if self.stride < 1 or self.interval < 1:
            raise ValueError(f"Window stride {self.stride} and interval {self.interval} must both be at least 1.")
        if self.strategy not in STRATEGIES:
            raise ValueError(f"Unknown window strategy '{self.strategy}'.")

    @property
    def last_start(self) -> int:
        """The last place: the window then ends just before the last step."""
        return self.steps - 1 - self.size

    def at(self, iteration: int) -> range:
        """The trained steps of an iteration (0-based)."""
        start = self._start(iteration)
        return range(start, start + self.size)

    def _start(self, iteration: int) -> int:
        if self.strategy == "frozen":
            return 0
        if self.strategy == "random":
            return Random(f"window/{self.seed}/{iteration}").randint(0, self.last_start)
        starts, stays = self._places()
        sweep = sum(stays)
        if iteration >= sweep:
            if not self.wrap:
                return starts[-1]
            iteration %= sweep
        for start, stay in zip(starts, stays, strict=True):
            if iteration < stay:
                return start
            iteration -= stay
        raise AssertionError("unreachable: the iteration lies inside the sweep")

    def _places(self) -> tuple[list[int], list[int]]:
        """The places in order, and how many iterations the window stays at each."""
        starts = list(range(0, self.last_start + 1, self.stride))
        if self.stride > 1 and starts[-1] != self.last_start:
            starts.append(self.last_start)  # a wide stride must not leave the last steps untrained
        return starts, [self._stay(start) for start in starts]

    def _stay(self, start: int) -> int:
        if self.strategy == "linear_decay":
            return max(1, math.ceil(self.interval * (1 - start / (self.last_start + 1))))
        if self.strategy == "exp_decay":
            return max(1, math.ceil(self.interval * math.exp(-EXP_DECAY_RATE * max(0, start - EXP_DECAY_ONSET))))
        return self.interval
