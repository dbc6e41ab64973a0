"""What an iteration's updates take: which images, which steps with which weights, at which learning rate."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import seeds
from ..config import TrainConfig
from ..objective import noise_weights
from ..rollout import Trajectory
from ..transitions import TRANSITIONS


def learning_rate(config: TrainConfig, iteration: int) -> float:
    """The learning rate of an iteration (0-based)."""
    options = config.optimizer
    left = 1 - iteration / config.run.iterations if options.schedule == "linear" else 1.0
    return options.learning_rate * left


def minibatches(config: TrainConfig, images: int, iteration: int) -> list[Tensor]:
    """The images of each of an iteration's updates, pass after pass: at random, none left over (on all ranks alike)."""
    generator = seeds.generator(config.run.seed, "minibatches", iteration)
    return [part for _ in range(config.optimizer.epochs) for part in _one_pass(config, images, generator)]


def _one_pass(config: TrainConfig, images: int, generator: torch.Generator) -> list[Tensor]:
    updates, size = config.optimizer.updates, config.rollout.group_size
    if not config.optimizer.balanced:
        return list(torch.randperm(images, generator=generator).tensor_split(updates))
    parts: list[list[Tensor]] = [[] for _ in range(updates)]
    for group in range(images // size):
        drawn = torch.randperm(size, generator=generator) + group * size
        for number, part in enumerate(drawn.tensor_split(updates)):
            # Where a group can't be split evenly, its size % updates larger parts go to the next updates in turn.
            parts[(number + group * (size % updates)) % updates].append(part)
    return [torch.cat(part) for part in parts]


def trained_places(config: TrainConfig, size: int, iteration: int) -> list[int]:
    """The trained steps of a window of `size`, counted from its first: all, or a random share (on all ranks alike)."""
    count = config.trained_steps(size)
    if count >= size:
        return list(range(size))
    drawn = torch.randperm(size, generator=seeds.generator(config.run.seed, "trained steps", iteration))
    return sorted(drawn[:count].tolist())


def step_weights(config: TrainConfig, trajectory: Trajectory) -> list[float] | None:
    """What each step of the window weighs in the loss; None: all the same."""
    if config.loss.step_weights == "uniform":
        return None
    nothing, transition = torch.zeros(1), TRANSITIONS[config.rollout.transition]
    levels = trajectory.sigmas.tolist()[:-1]  # the last step is never random
    stds = [
        transition(nothing, nothing, *pair, config.rollout.eta)[1] for pair in zip(levels, levels[1:], strict=False)
    ]
    weights = noise_weights(stds)
    return [weights[step] for step in trajectory.window]
