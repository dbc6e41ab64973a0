"""What a training needs in its device's memory, and how many images a model call can take. All sizes are bytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from torch import Tensor

from ..config import TrainConfig

GB = 2**30  # as torch, drivers and the names of cards count

# What no count of tensors sees: the libraries' own workspace, and room that is free but in pieces.
WORKSPACE = GB // 2
SLACK = 0.1  # of what a model call makes
COMPILED = 0.1  # of it, on top with compiled blocks: what they keep for the backward pass is the compiler's choice

LARGEST_BATCH = 1024  # that the settings allow

# A parameter of the adapter is float32, and so are its gradient and AdamW's two averages.
BYTES_A_TRAINED_VALUE = 16


@dataclass(frozen=True)
class Line:
    """Bytes that grow by the same amount with each image of a model call."""

    fixed: int = 0
    each: int = 0

    def of(self, images: int) -> int:
        return self.fixed + self.each * images

    def images_in(self, room: float) -> int:
        """How many images fit into so many bytes, at least 0."""
        if room < self.of(1):
            return 0
        return int((room - self.fixed) // self.each) if self.each else 2**31


def line_through(peak: Callable[[int], int]) -> Line:
    """The line through peak(1) and peak(2), the bytes of a model call with one and with two images."""
    one, two = peak(1), peak(2)
    each = max(two - one, 0)
    return Line(max(one - each, 0), each)


@dataclass(frozen=True)
class Needs:
    """What has to be on the device: some of it all the time, the rest one after another."""

    weights: int  # of the base model, as far as they aren't on the device yet
    adapter: int  # with gradients, optimizer state and average
    update: Line  # activations of a model call with gradients
    rollout: Line  # of one without
    kept: int = 0  # encoded prompts, and the states of an iteration's images
    vae: int = 0  # its weights and the decoding of an image (or of a tile)
    scorers: int = 0  # their weights; those on a GPU work while the next images are sampled

    @property
    def always(self) -> int:
        return self.weights + self.adapter + self.kept

    def of_update(self, images: int) -> int:
        return self.always + self.update.of(images)

    def of_rollout(self, images: int) -> int:
        return self.always + max(self.rollout.of(images), self.vae) + self.scorers

    def least(self) -> int:
        """With one image a model call: less is impossible with these settings."""
        return max(self.of_update(1), self.of_rollout(1))


@dataclass(frozen=True)
class Plan:
    """How many images a model call takes at first; 0: all of an iteration."""

    rollout_batch: int
    update_batch: int  # never 0: more than a minibatch joins several of its steps in a call
    fits: bool  # one image a call does, by the estimate without any margin


def plan(needs: Needs, free: int, config: TrainConfig) -> Plan:
    """The largest model calls that should fit into `free` bytes. Sizes that the settings give stay as they are."""
    room = (free - needs.always - WORKSPACE) / (1 + SLACK + COMPILED * config.run.compile_blocks)
    update = min(max(1, needs.update.images_in(room)), states_an_update(config), LARGEST_BATCH)
    rollout = min(max(1, needs.rollout.images_in(room - needs.scorers)), images_an_iteration(config))
    return Plan(
        config.rollout.batch_size or (0 if rollout == images_an_iteration(config) else rollout),
        config.optimizer.batch_size or update,
        needs.least() <= free,
    )


def images_an_iteration(config: TrainConfig) -> int:
    return config.rollout.group_size * config.rollout.prompts_per_iteration


def states_an_update(config: TrainConfig) -> int:
    """What the largest minibatch needs a velocity of: each of its images at each trained step."""
    return math.ceil(images_an_iteration(config) / config.optimizer.updates) * config.trained_steps(config.window_size)


def adapter_bytes(parameters: Iterable[Tensor], config: TrainConfig) -> int:
    """Of trained parameters with their gradients, optimizer state, and average if there is one."""
    values = sum(parameter.numel() for parameter in parameters)
    return values * (BYTES_A_TRAINED_VALUE + (4 if config.optimizer.ema_decay else 0))


def trajectory_bytes(latent_values: int, config: TrainConfig) -> int:
    """Of the float32 states of an iteration's images. latent_values: numbers in one image's latents."""
    window = config.window_size
    kept = window + 1 + (window if config.loss.surrogate != "clip" else 0)
    at_work = 6  # latents, velocity, mean, noise and the solver's last two
    return 4 * latent_values * (kept + at_work) * images_an_iteration(config)


def words(size: float) -> str:
    """A size for people: "11.9 GB", "320 MB"."""
    return f"{size / GB:.1f} GB" if size >= 0.95 * GB else f"{math.ceil(size / 2**20)} MB"


@dataclass(frozen=True)
class Report:
    """An estimate as people read it."""

    needs: Needs
    free: int
    plan: Plan
    config: TrainConfig
    # The same with other settings, in the order in which they should be tried: (what to change, what it then needs).
    alternatives: tuple[tuple[str, Needs], ...] = field(default=())

    def sentence(self) -> str:
        """All of it in one line."""
        needs, parts = self.needs, []
        if needs.weights:
            parts.append(f"weights {words(needs.weights)}")
        parts.append(f"LoRA and optimizer {words(needs.adapter)}")
        without = " without gradient_checkpointing" * (not self.config.run.gradient_checkpointing)
        parts.append(f"update {words(needs.update.fixed)} + {words(needs.update.each)} an image{without}")
        parts.append(f"rollout {words(needs.rollout.fixed)} + {words(needs.rollout.each)} an image")
        for name, size in (("VAE", needs.vae), ("scorers", needs.scorers)):
            if size:
                parts.append(f"{name} {words(size)}")
        return (
            f"Memory, estimated: {', '.join(parts)}; {words(self.free)} free. "
            f"rollout_batch_size {self.plan.rollout_batch or images_an_iteration(self.config)}, "
            f"update_batch_size {self.plan.update_batch}."
        )

    def too_much(self) -> str:
        """Why it can't fit and what to do."""
        start = (
            f"This training needs about {words(self.needs.least())} of memory with one image a model call, and "
            f"{words(self.free)} are free"
        )
        for change, needs in self.alternatives:
            if needs.least() + WORKSPACE <= self.free:
                return f"{start}: {change} (about {words(needs.least())})."
        return (
            f"{start}: use a smaller or quantised (fp8) model, smaller images and gradient_checkpointing, a smaller "
            "LoRA, or a device with more memory; and end other programs that use it."
        )
