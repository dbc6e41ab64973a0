"""A trainer whose iterations are run one at a time, so that several can take turns or stop at a time."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor

from mixgrpo_engine.config import TrainConfig
from mixgrpo_engine.policy import Condition
from mixgrpo_engine.records.events import Evaluation, Event, Iteration
from mixgrpo_engine.records.run_folder import RunFolder
from mixgrpo_engine.rewards import Reward
from mixgrpo_engine.rewards.shapes import ShapesReward
from mixgrpo_engine.rollout import Trajectory
from mixgrpo_engine.training.experience import Sampler
from mixgrpo_engine.training.trainer import Trainer

from .subject import Subject


class SingleSteps(Trainer):
    """The engine's trainer. Events go to its run folder, as in a real run, and to `events`."""

    def __init__(
        self,
        subject: Subject,
        config: TrainConfig,
        folder: Path,
        reward: Reward | None = None,
        own_copies: bool = False,
    ):
        """folder: of the run, made here. reward: shapes when None. own_copies: see OwnCopies."""
        self.events: list[Event] = []
        run_folder = RunFolder(folder)

        def emit(event: Event) -> None:
            run_folder.emit(event)
            self.events.append(event)

        rewards = {"shapes": reward or ShapesReward()}
        super().__init__(subject.policy(config), rewards, subject.prompts, config, run_folder, emit)
        if own_copies:
            given = (self.policy, self.lockstep, self.rewards, self.prompts, config, self.pulse, self.ranks)
            self.sampler = OwnCopies(*given)

    def timed_step(self) -> tuple[Iteration, float]:
        """Runs the next iteration; its event, and the seconds that all of it took."""
        started = time.perf_counter()
        self.step()
        return self._last(Iteration), time.perf_counter() - started

    def evaluate(self) -> Evaluation:
        """Scores the held-out prompts now."""
        self.held_out.evaluate(self.iteration)
        return self._last(Evaluation)

    def _show_group(self, *_) -> None:
        """Nobody looks, and its decoding now and then belongs to no algorithm."""

    def _last(self, kind: type) -> Event:
        return next(event for event in reversed(self.events) if isinstance(event, kind))


class OwnCopies(Sampler):
    """Every image runs its own copy of what its group has in common, as published implementations do.

    The mathematics and the random numbers are the same; the steps up to the window's first cost group_size times as
    much, and so does that step in the update.
    """

    def rollout(self, iteration: int, window: range, prompts: Sequence[str], first: int = 0) -> Trajectory:
        trajectory = super().rollout(iteration, window, prompts, first)
        copies = len(prompts) * (self.config.group_size - 1)
        forwards = trajectory.forwards + copies * (window.start + 1)
        return dataclasses.replace(trajectory, shared_noise=False, forwards=forwards)

    def velocity(
        self, condition: Condition, batch_size: int, phase: str = "rollout"
    ) -> Callable[[Tensor, float], Tensor]:
        velocity = super().velocity(condition, batch_size, phase)
        images = len(condition) * self.config.group_size

        def of_copies(latents: Tensor, sigma: float) -> Tensor:
            copies = images // len(latents)
            return velocity(latents.repeat_interleave(copies, dim=0), sigma)[::copies]

        return of_copies if phase == "rollout" else velocity
