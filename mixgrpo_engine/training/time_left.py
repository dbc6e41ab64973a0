"""How long a training still takes, from how long its iterations and evaluations took."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..config import RunConfig

KEEP = 0.9  # how much of the mean before stays: single long ones hardly move it, a lasting change does


@dataclass
class Pace:
    """Mean seconds of something that is done again and again, without the first time, which is slow everywhere."""

    mean: float = 0.0
    times: int = 0

    def took(self, seconds: float) -> None:
        self.times += 1
        keep = min(KEEP, 1 - 1 / max(1, self.times - 1))
        self.mean = keep * self.mean + (1 - keep) * seconds


@dataclass
class TimeLeft:
    """Of a run, out of what this process has done of it."""

    run: RunConfig
    iterations: Pace = field(default_factory=Pace)
    evaluations: Pace = field(default_factory=Pace)

    def seconds(self, done: int) -> float:
        """done: how many iterations are finished; what is due to be evaluated after the last one is yet to be."""
        run = self.run
        every = run.evaluate_every or run.sample_every
        evaluations = -(-run.iterations // every) - (done - 1) // every if every else 0
        return self.iterations.mean * (run.iterations - done) + self.evaluations.mean * evaluations
