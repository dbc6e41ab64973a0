"""Held-out prompts, sampled with the same noises every time and scored: the curve that tells learning from luck."""

from __future__ import annotations

import torch
from torch import Tensor

from . import seeds
from .events import Evaluation, Sample
from .grid import labelled_grid
from .rollout import sample_ode

SHOWN = 16  # images of the sample grid


class HeldOut:
    """Evaluates a trainer's policy on held-out prompts; with none, on the first training prompts."""

    def __init__(self, trainer, held_out: tuple[str, ...]):
        self.trainer = trainer
        self.prompts = held_out or trainer.prompts.train[:8]
        run = trainer.config.run
        self.images_each = run.evaluate_images
        self.noise = trainer.policy.noise(
            [seeds.derive(run.seed, "held-out", index) for index in range(len(self.prompts) * self.images_each)]
        )

    @torch.no_grad()
    def evaluate(self, iteration: int) -> None:
        """Emits the mean scores and writes a sample grid. Deterministic sampling: it draws no random number."""
        trainer = self.trainer
        condition = trainer.policy.condition(self.prompts)
        latents = sample_ode(
            lambda x, sigma: trainer.velocity(x, sigma, condition, self.images_each),
            self.noise.to(trainer.policy.device),
            trainer.sigmas,
        )
        images = trainer.policy.decode(latents)
        prompts = [prompt for prompt in self.prompts for _ in range(self.images_each)]
        rewards, strict = {}, {}
        for name, reward in trainer.rewards.items():
            rewards[name] = _mean(reward.score(images, prompts))
            if hasattr(reward, "strict"):
                strict[name] = _mean(reward.strict(images, prompts))
        trainer.emit(Evaluation(iteration, rewards, strict))
        self._write_samples(iteration, images, prompts)

    def _write_samples(self, iteration: int, images: Tensor, prompts: list[str]) -> None:
        # One image a prompt before a second one of any: the grid shows many prompts rather than many noises.
        order = sorted(range(len(images)), key=lambda i: (i % self.images_each, i // self.images_each))[:SHOWN]
        shown = [prompts[i] for i in order]
        path = self.trainer.folder.samples / f"iteration_{iteration:06d}.png"
        grid = labelled_grid(images[order], shown, columns=4, cell=160, title=f"iteration {iteration}")
        grid.save(path)
        self.trainer.emit(Sample(iteration, path.relative_to(self.trainer.folder.path).as_posix(), shown))


def _mean(scores) -> float:
    return float(torch.as_tensor(scores, dtype=torch.float32).nanmean())
