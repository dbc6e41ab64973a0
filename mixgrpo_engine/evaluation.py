"""Held-out prompts, sampled with the same noises every time and scored: the curve that tells learning from luck."""

from __future__ import annotations

import torch
from torch import Tensor

from . import seeds
from .events import Evaluation, Sample, read
from .grid import labelled_grid
from .rollout import sample_ode

SHOWN = 16  # images of the sample grid


class HeldOut:
    """Evaluates a trainer's policy on held-out prompts; with none, on the first training prompts."""

    def __init__(self, trainer, held_out: tuple[str, ...]):
        self.trainer = trainer
        self.images_each = trainer.config.run.evaluate_images
        prompts = held_out or trainer.prompts.train[:8]
        self.prompts = [prompt for prompt in prompts for _ in range(self.images_each)]  # one an image

    def has_been_done(self, iteration: int) -> bool:
        """Whether the run folder already holds this evaluation: a resumed run doesn't repeat it."""
        history, _ = read(self.trainer.folder.events)
        return any(event["type"] == "evaluation" and event["iteration"] == iteration for event in history)

    @torch.no_grad()
    def evaluate(self, iteration: int) -> None:
        """Emits the mean scores and writes a sample grid. Its noises are the same every time."""
        images = self._sample()
        rewards, strict = {}, {}
        for name, reward in self.trainer.rewards.items():
            rewards[name] = _mean(reward.score(images, self.prompts))
            if hasattr(reward, "strict"):
                strict[name] = _mean(reward.strict(images, self.prompts))
        self.trainer.emit(Evaluation(iteration, rewards, strict))
        self._write_samples(iteration, images)

    def _sample(self) -> Tensor:
        """(images, height, width, 3), in batches no larger than a rollout's: what fits there fits here."""
        trainer, rollout = self.trainer, self.trainer.config.rollout
        size = rollout.batch_size or rollout.group_size * rollout.prompts_per_iteration
        images = []
        for start in range(0, len(self.prompts), size):
            rows = range(start, min(start + size, len(self.prompts)))
            noise = trainer.policy.noise([seeds.derive(trainer.config.run.seed, "held-out", row) for row in rows])
            condition = trainer.policy.condition([self.prompts[row] for row in rows])
            velocity = trainer.velocity(condition, batch_size=0, phase="evaluate")
            latents = sample_ode(velocity, noise.to(trainer.policy.device), trainer.sigmas)
            images.append(trainer.policy.decode(latents))
        return torch.cat(images)

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
