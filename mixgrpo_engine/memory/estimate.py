"""What a training needs in its device's memory, and how many images a model call can take. All sizes are bytes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..block_swap import AT_ONCE, BYTES_A_SECOND, evenly
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
    blocks: tuple[int, ...] = ()  # of the weights, what each transformer block can leave in host memory
    swapped: int = 0  # blocks that do

    @property
    def in_host(self) -> int:
        """What stays in host memory: so much comes to the device in a model call, and again in its backward pass."""
        return sum(self._swapped())

    @property
    def resident(self) -> int:
        """Of the weights on the device, those of swapped blocks at work included."""
        return max(0, self.weights - self.in_host) + sum(sorted(self._swapped())[-AT_ONCE:])

    @property
    def always(self) -> int:
        return self.resident + self.adapter + self.kept

    def _swapped(self) -> list[int]:
        return [self.blocks[place] for place in evenly(self.swapped, len(self.blocks))]

    def of_update(self, images: int) -> int:
        return self.always + self.update.of(images)

    def of_rollout(self, images: int) -> int:
        return self.always + max(self.rollout.of(images), self.vae) + self.scorers

    def least(self) -> int:
        """With one image a model call: less is impossible with these settings."""
        return max(self.of_update(1), self.of_rollout(1))

    def has_room(self, free: int) -> bool:
        """Whether one image a model call fits into so many bytes with all margins."""
        return self.always + WORKSPACE + (self.least() - self.always) * (1 + SLACK) <= free

    def swapping(self, count: int) -> Needs:
        """The same with so many blocks in host memory."""
        return dataclasses.replace(self, swapped=min(count, len(self.blocks)))


def fitted(needs_of: Callable[[TrainConfig], Needs], free: int, config: TrainConfig) -> tuple[TrainConfig, Needs]:
    """The settings with a number of swapped blocks, and what they need.

    swapped_blocks of -1 becomes the least number with which there is room; all blocks, if there never is. Swapping
    comes with gradient_checkpointing, which is enough where that number is 0.
    """
    needs, asked = needs_of(config), config.run.swapped_blocks
    fits = needs.has_room(free) or not needs.weights
    if asked == 0 or (asked < 0 and fits) or not needs.blocks:
        return _with_run(config, swapped_blocks=0), needs
    if not config.run.gradient_checkpointing:
        config = _with_run(config, gradient_checkpointing=True)
        needs = needs_of(config)
    most = len(needs.blocks)
    count = asked if asked > 0 else next((n for n in range(most) if needs.swapping(n).has_room(free)), most)
    needs = needs.swapping(count)
    return _with_run(config, swapped_blocks=needs.swapped), needs


def _with_run(config: TrainConfig, **changes: Any) -> TrainConfig:
    return dataclasses.replace(config, run=dataclasses.replace(config.run, **changes))


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
    """Of trained parameters with their gradients, optimizer state, and averages if there are any."""
    values = sum(parameter.numel() for parameter in parameters)
    averages = bool(config.optimizer.ema_decay) + (config.loss.surrogate == "nft")
    return values * (BYTES_A_TRAINED_VALUE + 4 * averages)


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
    switched_on: bool = False  # gradient_checkpointing, which wasn't asked for

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
        sentences = [
            f"Memory, estimated: {', '.join(parts)}; {words(self.free)} free.",
            f"rollout_batch_size {self.plan.rollout_batch or images_an_iteration(self.config)}, "
            f"update_batch_size {self.plan.update_batch}.",
        ]
        if needs.swapped:
            sentences.append(
                f"{needs.swapped} of {len(needs.blocks)} blocks stay in host memory: {words(needs.in_host)} come over "
                f"the bus in each model call and once more in its backward pass, {needs.in_host / BYTES_A_SECOND:.2g} "
                f"s each time at {BYTES_A_SECOND / 1e9:g} GB/s (assumed), partly while others compute."
            )
        if self.switched_on:
            sentences.append("gradient_checkpointing is switched on for it.")
        return " ".join(sentences)

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
