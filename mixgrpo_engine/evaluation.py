"""Held-out prompts, sampled with the same noises every time and scored: the curve that tells learning from luck."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from . import seeds
from .events import Best, Evaluation, Sample, read
from .experience import Scores, and_why, score_images
from .grid import labelled_grid
from .rewards import Reward
from .rollout import sample_ode

SHOWN = 16  # images of the sample grid


class HeldOut:
    """Evaluates a trainer's policy on held-out prompts; with none, on the first training prompts."""

    def __init__(
        self,
        trainer,
        held_out: tuple[str, ...],
        watched: Mapping[str, Reward],
        watched_weights: Mapping[str, float] | None = None,
    ):
        """watched: rewards that are only looked at. They decide which LoRA is the best one, by their mean (weighted,
        if weights are given); without any, the trained rewards do."""
        self.trainer = trainer
        self.images_each = trainer.config.run.evaluate_images
        prompts = held_out or trainer.prompts.train[:8]
        self.prompts = [prompt for prompt in prompts for _ in range(self.images_each)]  # one an image
        told_apart = {name: name + " (watched)" * (name in trainer.rewards) for name in watched}
        self.watched = {told_apart[name]: reward for name, reward in watched.items()}
        self.watched_weights = {told_apart[name]: (watched_weights or {}).get(name, 1.0) for name in watched}

    def has_been_done(self, iteration: int) -> bool:
        """Whether the run folder already holds this evaluation: a resumed run doesn't repeat it."""
        return any(event["iteration"] == iteration for event in self._history())

    @torch.no_grad()
    def evaluate(self, iteration: int) -> None:
        """Emits the mean scores, writes a sample grid, and keeps the LoRA if there was none better before.

        The noises are the same every time.
        """
        images = self._sample()
        rewards, strict = {}, {}
        scorers = {**self.trainer.rewards, **self.watched}
        scores = score_images(scorers, images, self.prompts)
        for name, reward in scorers.items():
            rewards[name] = _mean(scores.values[name])
            self._tell_failures(name, scores)
            if hasattr(reward, "strict"):
                strict[name] = _mean(reward.strict(images, self.prompts))
        self._keep_if_best(iteration, rewards)
        self.trainer.emit(Evaluation(iteration, rewards, strict))
        self._write_samples(iteration, images)

    def deciding_score(self, rewards: Mapping[str, float | None]) -> float:
        """The one number that tells a better LoRA: the mean of the watched rewards, or the trained ones' weighted."""
        if self.watched:
            weights = self.watched_weights
        else:
            weights = self.trainer.weights or dict.fromkeys(self.trainer.rewards, 1.0)
        counted = {name: weight for name, weight in weights.items() if weight > 0}
        if any(rewards.get(name) is None for name in counted):
            return float("nan")  # in the event log a mean that isn't a number is None
        return sum(weight * rewards[name] for name, weight in counted.items()) / sum(counted.values())

    def _tell_failures(self, name: str, scores: Scores) -> None:
        failed = int(scores.values[name].isnan().sum())
        if failed:
            self.trainer.pulse.notice(
                f"The reward '{name}' couldn't score {failed} of {len(self.prompts)} held-out images. "
                f"{and_why(scores.failures[name])}".strip()
            )

    def _keep_if_best(self, iteration: int, rewards: Mapping[str, float]) -> None:
        score = self.deciding_score(rewards)
        earlier = [self.deciding_score(event["reward"]) for event in self._history()]
        if not math.isnan(score) and not any(other >= score for other in earlier):
            # Before the evaluation is told: a kill in between then repeats both.
            self.trainer.policy.export(self.trainer.folder.best_lora, self.trainer.metadata())
            self.trainer.emit(Best(iteration, score, self.trainer.folder.best_lora.name))

    def _history(self) -> list[dict]:
        return [event for event in read(self.trainer.folder.events)[0] if event["type"] == "evaluation"]

    def _sample(self) -> Tensor:
        """(images, height, width, 3), in batches no larger than a rollout's: what fits there fits here."""
        rollout = self.trainer.config.rollout
        images_of_a_rollout = rollout.group_size * rollout.prompts_per_iteration
        return self.trainer.sampler.batch_size.run(
            lambda size: torch.cat([self._images(rows) for rows in self._batches(size or images_of_a_rollout)]),
            images_of_a_rollout,
        )

    def _batches(self, size: int) -> Iterator[range]:
        for start in range(0, len(self.prompts), size):
            yield range(start, min(start + size, len(self.prompts)))

    def _images(self, rows: range) -> Tensor:
        policy, sampler, seed = self.trainer.policy, self.trainer.sampler, self.trainer.config.run.seed
        noise = policy.noise([seeds.derive(seed, "held-out", row) for row in rows])
        condition = policy.condition([self.prompts[row] for row in rows])
        velocity = sampler.velocity(condition, batch_size=0, phase="evaluate")
        return policy.decode(sample_ode(velocity, noise.to(policy.device), sampler.sigmas))

    def _write_samples(self, iteration: int, images: Tensor) -> None:
        # One image a prompt before a second one of any: the grid shows many prompts rather than many noises.
        order = sorted(range(len(images)), key=lambda i: (i % self.images_each, i // self.images_each))[:SHOWN]
        shown = [self.prompts[i] for i in order]
        path = self.trainer.folder.samples / f"iteration_{iteration:06d}.png"
        grid = labelled_grid(images[order], shown, columns=4, cell=160, title=f"iteration {iteration}")
        grid.save(path)
        self.trainer.emit(Sample(iteration, path.relative_to(self.trainer.folder.path).as_posix(), shown))


def _mean(scores) -> float:
    return float(torch.as_tensor(scores, dtype=torch.float32).nanmean())
