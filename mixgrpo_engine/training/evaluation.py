"""Held-out prompts, sampled with the same noises every time and scored: the curve that tells learning from luck."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import seeds
from ..records.events import Best, Evaluation, Sample, read
from ..records.grid import labelled_grid, stills
from ..rewards import Reward
from ..rollout import sample_ode
from .experience import and_why, score_images
from .pulse import Stopped

SHOWN = 16  # images of the sample grid


@dataclass
class HeldOutScores:
    """Of all held-out images, in their order."""

    values: dict[str, Tensor]  # scorer -> float32 (images,); NaN: no score
    failures: dict[str, list[str]]
    strict: dict[str, Tensor]  # scorers that can tell -> float32 (images,), 1 right and 0 wrong


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
        ranks, mine = self.trainer.ranks, self.trainer.ranks.share(len(self.prompts))
        images, stopped = None, False
        try:
            images = self._sample(mine)
        except Stopped:
            stopped = True
        self.trainer.calls.catch_up()
        if ranks.any(stopped):
            raise Stopped
        scores = self._scores(images, [self.prompts[row] for row in mine])
        for name, values in scores.values.items():
            self._tell_failures(name, values, scores.failures[name])
        rewards = {name: _mean(values) for name, values in scores.values.items()}
        # Before the evaluation is told: a kill in between then repeats both.
        if ranks.main(self._is_best(rewards)):
            self.trainer.export(self.trainer.folder.best_lora)
            self.trainer.emit(Best(iteration, self.deciding_score(rewards), self.trainer.folder.best_lora.name))
        strict = {name: _mean(values) for name, values in scores.strict.items()}
        self.trainer.emit(Evaluation(iteration, rewards, strict))
        self._write_samples(iteration, images, mine)

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

    def _scores(self, images: Tensor | None, prompts: list[str]) -> HeldOutScores:
        """Everybody's scores joined; images: this process's, None if it has none."""
        ranks, scorers = self.trainer.ranks, {**self.trainer.rewards, **self.watched}
        values, failures = {name: torch.zeros(0) for name in scorers}, {name: [] for name in scorers}
        strict = {name: torch.zeros(0) for name, scorer in scorers.items() if hasattr(scorer, "strict")}
        if images is not None:
            scores = score_images(scorers, images, prompts)
            values, failures = scores.values, scores.failures
            strict = {name: torch.as_tensor(scorers[name].strict(images, prompts)).float().cpu() for name in strict}
        joined = {name: ranks.joined(reasons) for name, reasons in failures.items()}
        return HeldOutScores(ranks.joined_rows(values), joined, ranks.joined_rows(strict))

    def _tell_failures(self, name: str, values: Tensor, reasons: list[str]) -> None:
        failed = int(values.isnan().sum())
        if failed:
            self.trainer.pulse.notice(
                f"The reward '{name}' couldn't score {failed} of {len(self.prompts)} held-out images. "
                f"{and_why(reasons)}".strip()
            )

    def _is_best(self, rewards: Mapping[str, float]) -> bool:
        score = self.deciding_score(rewards)
        earlier = [self.deciding_score(event["reward"]) for event in self._history()]
        return not math.isnan(score) and not any(other >= score for other in earlier)

    def _history(self) -> list[dict]:
        return [event for event in read(self.trainer.folder.events)[0] if event["type"] == "evaluation"]

    def _sample(self, rows: range) -> Tensor | None:
        """(rows, height, width, 3), in batches no larger than a rollout's: what fits there fits here."""
        rollout = self.trainer.config.rollout
        images_of_a_rollout = rollout.group_size * len(self.trainer.ranks.share(rollout.prompts_per_iteration))
        if not rows:
            return None
        return self.trainer.sampler.batch_size.run(
            lambda size: torch.cat([self._images(part) for part in _batches(rows, size or images_of_a_rollout)]),
            images_of_a_rollout,
        )

    def _images(self, rows: range) -> Tensor:
        policy, sampler, seed = self.trainer.policy, self.trainer.sampler, self.trainer.config.run.seed
        noise = policy.noise([seeds.derive(seed, "held-out", row) for row in rows])
        condition = policy.condition([self.prompts[row] for row in rows])
        velocity = sampler.velocity(condition, batch_size=0, phase="evaluate")
        return policy.decode(sample_ode(velocity, noise.to(policy.device), sampler.sigmas))

    def _write_samples(self, iteration: int, images: Tensor | None, mine: range) -> None:
        # One image a prompt before a second one of any: the grid shows many prompts rather than many noises.
        order = sorted(range(len(self.prompts)), key=lambda i: (i % self.images_each, i // self.images_each))[:SHOWN]
        # As bytes: they may come from other processes.
        own = [(row, _to_bytes(images[row - mine.start])) for row in order if row in mine]
        pictures = dict(self.trainer.ranks.joined(own))
        if not self.trainer.ranks.is_main:
            return
        shown = [self.prompts[row] for row in order]
        path = self.trainer.folder.samples / f"iteration_{iteration:06d}.png"
        sheet = torch.stack([pictures[row] for row in order]).float() / 255
        sheet, frames = stills(sheet, self.trainer.config.run.frames)
        title = f"iteration {iteration}"
        if frames:
            labelled_grid(sheet, shown, columns=2, cell=320, title=f"{title}: {frames}").save(path)
        else:
            labelled_grid(sheet, shown, columns=4, cell=160, title=title).save(path)
        self.trainer.emit(Sample(iteration, path.relative_to(self.trainer.folder.path).as_posix(), shown))


def _batches(rows: range, size: int) -> Iterator[range]:
    for start in range(rows.start, rows.stop, size):
        yield range(start, min(start + size, rows.stop))


def _to_bytes(image: Tensor) -> Tensor:
    return (image.clamp(0, 1) * 255).round().to(torch.uint8)


def _mean(scores) -> float:
    return float(torch.as_tensor(scores, dtype=torch.float32).nanmean())
