"""Held-out prompts, sampled with the same noises every time and scored: the curve that tells learning from luck."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .. import seeds
from ..config import TrainConfig
from ..distributed.ranks import Ranks
from ..prompts import PromptSet
from ..records import samples
from ..records.events import Best, Evaluation, Sample
from ..records.grid import labelled_grid, stills, to_bytes
from ..records.run_folder import RunFolder
from ..rewards import Reward, compares_group, scoring_held_out, strict_scores
from ..rewards.scoring import ScoresByName, and_why
from .experience import Sampler
from .held_out_history import History, rounded
from .pulse import Pulse, Stopped

SHOWN = 16  # images of the sample grid
SAMPLED = 4  # images where nothing is evaluated


@dataclass
class HeldOutScores:
    """Of held-out images, in their order."""

    by_name: ScoresByName
    strict: dict[str, Tensor]  # scorers that can tell -> float32 (images,), 1 right and 0 wrong


@dataclass(frozen=True)
class HeldOutImages:
    """Some held-out images, sampled and scored by all processes together."""

    rows: range  # which of the held-out images these are
    own: range  # which of them this process has sampled
    images: list[Tensor]  # those: (height, width, 3) each
    scores: HeldOutScores  # of all rows, in their order


@dataclass(frozen=True)
class Judges:
    """Who scores held-out images, and whose scores tell the best LoRA."""

    rewards: dict[str, Reward]  # all of them, by name
    deciding: dict[str, float]  # the weights of those that decide

    @classmethod
    def of(
        cls,
        trained: Mapping[str, Reward],
        weights: Mapping[str, float] | None,
        watched: Mapping[str, Reward],
        watched_weights: Mapping[str, float] | None,
    ) -> Judges:
        """The watched rewards decide; without any, the trained ones do. Weights are equal when None.

        One that compares images of a group with each other has the same mean whatever was learned, and one that leaves
        out held-out images has none: they decide nothing where there is another one.
        """
        apart = {name: name + " (watched)" * (name in trained) for name in watched}
        rewards = {**trained, **{apart[name]: reward for name, reward in watched.items()}}
        deciding = dict(weights or dict.fromkeys(trained, 1.0))
        if watched:
            deciding = {apart[name]: (watched_weights or {}).get(name, 1.0) for name in watched}
        silent = {
            name
            for name in deciding
            if compares_group(rewards[name]) or getattr(rewards[name], "leaves_out_held_out", False)
        }
        telling = {name: weight for name, weight in deciding.items() if weight > 0 and name not in silent}
        return cls(rewards, telling or deciding)

    def decide(self, scores: Mapping[str, float | None]) -> float:
        """The one number that tells a better LoRA: the deciding scorers' weighted mean; NaN where one is missing."""
        counted = {name: weight for name, weight in self.deciding.items() if weight > 0}
        # In the event log a mean that isn't a number is None.
        known = {name: score for name in counted if (score := scores.get(name)) is not None}
        if len(known) < len(counted):
            return math.nan
        return sum(weight * known[name] for name, weight in counted.items()) / sum(counted.values())

    def decide_each(self, scores: Mapping[str, Tensor]) -> Tensor:
        """The same of every image: (images,)."""
        counted = {name: weight for name, weight in self.deciding.items() if weight > 0}
        total = sum((weight * scores[name].double() for name, weight in counted.items()), torch.zeros(()))
        return total / sum(counted.values())


class HeldOut:
    """Evaluates the policy on held-out prompts."""

    def __init__(
        self,
        sampler: Sampler,
        judges: Judges,
        prompts: PromptSet,
        config: TrainConfig,
        folder: RunFolder,
        pulse: Pulse,
        ranks: Ranks,
        export: Callable[[Path], None],
    ) -> None:
        """export(path) writes the present adapter as a LoRA; every process calls it."""
        self.sampler, self.judges, self.folder = sampler, judges, folder
        self.pulse, self.ranks, self.export = pulse, ranks, export
        self.rollout, self.run = config.rollout, config.run
        # One an image.
        self.prompts = [prompt for prompt in prompts.measured for _ in range(self.run.evaluate_images)]
        self.history = History(folder.events, judges.decide)
        self.steps = config.evaluation_steps
        if self.history.steps not in (None, self.steps):
            pulse.notice(
                f"Held-out images go on to be sampled as at this run's start ({told(self.history.steps)}), not as "
                f"evaluate_steps says now ({told(self.steps)}): their scores could not be compared."
            )
            self.steps = self.history.steps

    def has_been_done(self, iteration: int) -> bool:
        """Whether the run folder already holds what is due then: a resumed run doesn't repeat it."""
        return iteration in (self.history.evaluated if self.run.evaluate_every else self.history.sampled)

    @torch.no_grad()
    def evaluate(self, iteration: int) -> None:
        """Emits the mean scores, writes sample images, and keeps the LoRA if there was none better before.

        The noises are the same every time.
        """
        found = self._sampled_and_scored(range(len(self.prompts)))
        rewards = found.scores.by_name.means()
        score = self.judges.decide(rewards)
        each = [rounded(value) for value in self.judges.decide_each(found.scores.by_name.values).tolist()]
        change, error = self.history.change(score, each, self.run.evaluate_images)
        # Before the evaluation is told: a kill in between then repeats both.
        if self.ranks.main(score > self.history.best):
            self.export(self.folder.best_lora)
            self.pulse.emit(Best(iteration, score, self.folder.best_lora.name))
        strict = {name: float(values.nanmean()) for name, values in found.scores.strict.items()}
        event = Evaluation(iteration, rewards, strict, score, change, error, each, self.steps)
        self.pulse.emit(event)
        self.history.add(event.as_dict())
        self._write_samples(iteration, found)

    @torch.no_grad()
    def sample(self, iteration: int) -> None:
        """A few of the evaluation's images, for people to look at: it tells no mean, and nothing is chosen by them."""
        rows = range(0, len(self.prompts), self.run.evaluate_images)[:SAMPLED]
        self._write_samples(iteration, self._sampled_and_scored(rows))
        self.history.sampled.add(iteration)

    def _sampled_and_scored(self, rows: range) -> HeldOutImages:
        """rows: which of the held-out images. Tells of those that couldn't be scored."""
        mine = self.ranks.share(len(rows))
        own = rows[mine.start : mine.stop]
        images: list[Tensor] = []
        stopped = False
        try:
            images = self._sample(own)
        except Stopped:
            stopped = True
        self.sampler.module.catch_up()
        if self.ranks.any(stopped):
            raise Stopped
        scores = self._scores(images, [self.prompts[row] for row in own])
        for name, values in scores.by_name.values.items():
            self._tell_failures(name, values, scores.by_name.failures[name])
        return HeldOutImages(rows, own, images, scores)

    def _scores(self, images: list[Tensor], prompts: list[str]) -> HeldOutScores:
        """Everybody's scores joined; images: this process's."""
        rewards = self.judges.rewards
        values = {name: torch.full((len(images),), torch.nan) for name in rewards}
        failures: dict[str, list[str]] = {name: [] for name in rewards}
        strict = {name: values[name].clone() for name, reward in rewards.items() if hasattr(reward, "strict")}
        for rows in alike(range(len(images)), lambda row: images[row].shape):
            batch, of_rows = torch.stack([images[row] for row in rows]), [prompts[row] for row in rows]
            with scoring_held_out():
                scored = self.sampler.score(rewards, batch, of_rows)
            texts, references = self.sampler.told(rewards, of_rows)
            for name in rewards:
                values[name][rows] = scored.values[name]
                failures[name] += scored.failures[name]
            for name in strict:
                if (right := strict_scores(rewards[name], batch, texts, references)) is not None:
                    strict[name][rows] = right
        joined = {name: self.ranks.joined(reasons) for name, reasons in failures.items()}
        return HeldOutScores(ScoresByName(self.ranks.joined_rows(values), joined), self.ranks.joined_rows(strict))

    def _tell_failures(self, name: str, values: Tensor, reasons: list[str]) -> None:
        failed = int(values.isnan().sum())
        if failed:
            self.pulse.notice(
                f"The reward '{name}' couldn't score {failed} of {len(values)} held-out images. "
                f"{and_why(reasons)}".strip()
            )

    def _sample(self, rows: range) -> list[Tensor]:
        """(height, width, 3) each, in batches no larger than a rollout's: what fits there fits here."""
        images_of_a_rollout = self.rollout.group_size * len(self.ranks.share(self.rollout.prompts_per_iteration))
        of_one_shape = alike(rows, lambda row: self.sampler.policy.shape_of(self.prompts[row]))

        def work(size: int) -> list[Tensor]:
            found: dict[int, Tensor] = {}
            for same in of_one_shape:
                for part in batches(same, size or images_of_a_rollout):
                    found.update(zip(part, self._images(part), strict=True))
            return [found[row] for row in rows]

        return self.sampler.batch_size.run(work, images_of_a_rollout) if rows else []

    def _images(self, rows: Sequence[int]) -> Tensor:
        prompts, seeds_of_rows = [self.prompts[row] for row in rows], noise_seeds(self.run.seed, rows)
        return self.sampler.sample(prompts, seeds_of_rows, "evaluate", self.steps)

    def _write_samples(self, iteration: int, found: HeldOutImages) -> None:
        # One image a prompt before a second one of any: the grid shows many prompts rather than many noises.
        each = self.run.evaluate_images
        order = sorted(found.rows, key=lambda row: (row % each, row // each))[:SHOWN]
        # As bytes: they may come from other processes.
        own, images = found.own, found.images
        pictures = [(row, to_bytes(images[own.index(row)])) for row in order if row in own]
        joined = dict(self.ranks.joined(pictures))
        if not self.ranks.is_main:
            return
        shown = [self.prompts[row] for row in order]
        path = self.folder.samples / f"iteration_{iteration:06d}.png"
        told_stills = [stills(joined[row][None], self.run.frames) for row in order]
        sheet, frames = [picture[0] for picture, _ in told_stills], told_stills[0][1]
        title = f"iteration {iteration}"
        if frames:
            labelled_grid(sheet, shown, columns=2, cell=320, title=f"{title}: {frames}").save(path)
        else:
            labelled_grid(sheet, shown, columns=4, cell=160, title=title).save(path)
        single = self._write_single(iteration, sheet, order, found) if self.run.images_mb else []
        with self.pulse.for_people("The samples of fewer iterations"):
            samples.thin_out(self.folder.samples, self.run.images_mb * samples.MB)
        self.pulse.emit(Sample(iteration, path.relative_to(self.folder.path).as_posix(), shown, single))

    def _write_single(
        self, iteration: int, pictures: list[Tensor], order: list[int], found: HeldOutImages
    ) -> list[dict]:
        """One file an image, and what is known of each."""
        paths: list[Path] = []
        with self.pulse.for_people("Single images of the samples"):
            paths = samples.save(pictures, self.folder.samples / f"{iteration:06d}")
        scores = found.scores.by_name.values
        return [
            {
                "file": path.relative_to(self.folder.path).as_posix(),
                "prompt": self.prompts[row],
                "seed": str(seed),
                "scores": {name: rounded(float(values[found.rows.index(row)])) for name, values in scores.items()},
            }
            for path, row, seed in zip(paths, order, noise_seeds(self.run.seed, order), strict=False)
        ]


def told(steps: int) -> str:
    return f"{steps} second-order steps" if steps else "the training's own steps"


def noise_seeds(seed: int, rows: Iterable[int]) -> list[int]:
    """Of held-out images by their numbers: always the same ones."""
    return [seeds.derive(seed, "held-out", row) for row in rows]


def alike(rows: Iterable[int], kind: Callable[[int], object]) -> list[list[int]]:
    """The rows by kind, in order of first appearance."""
    found: dict[object, list[int]] = {}
    for row in rows:
        found.setdefault(kind(row), []).append(row)
    return list(found.values())


def batches(rows: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """Neighbouring rows, `size` at a time."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
