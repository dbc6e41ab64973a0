"""The Policy protocol: what the trainer needs to know of a model, and nothing more."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn


class Condition(Protocol):
    """Encoded prompts, one row a prompt. Opaque to the engine, which only picks rows."""

    def __len__(self) -> int: ...

    def select(self, rows: Sequence[int]) -> Condition:
        """The given rows, in this order; a row may be repeated (a group shares its prompt's row)."""
        ...


class Policy(Protocol):
    """A flow-matching model with a trainable adapter.

    Latents are float32 tensors (batch, channels, ..., height, width) on `device`, in the space in which the
    sampler works (what a VAE decodes after `decode` has undone the latent format).
    """

    module: nn.Module
    """`module(latents, sigma, condition) -> velocity`, float32, same shape as latents. sigma: a float in (0, 1], or
    float32 (batch,) on the device, one a latent.
    Classifier-free guidance, casting and gradient checkpointing happen inside. Its trainable parameters are the
    adapter's, and nothing else in it requires a gradient."""

    device: torch.device

    def sigmas(self, steps: int, shift: float = 0.0) -> Tensor:
        """float32 (steps + 1,), from 1 to 0. shift 0 means the model's own."""
        ...

    def shift(self) -> float:
        """The model's own time shift s, as in sigma = s * t / (1 + (s - 1) * t)."""
        ...

    def condition(self, prompts: Sequence[str]) -> Condition: ...

    def shape_of(self, prompt: str) -> tuple[int, ...]:
        """(channels, ..., height, width) of the latents of one image of a prompt, which may bring a size of its own.

        A model call, and with it `condition`, takes prompts of one shape.
        """
        ...

    def noise(self, seeds: Sequence[int], prompt: str | None = None) -> Tensor:
        """(len(seeds), ...) standard normal; row i depends on seeds[i] alone, not on the batch or the device.

        prompt: whose shape it has; without one it has the run's.
        """
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Latents to images: float32 (batch, height, width, 3) in 0..1, on the CPU.

        Of videos (`frames` of the settings above 1) the frames one below the other: (batch, frames * height, ...).
        """
        ...

    def base(self) -> AbstractContextManager:
        """Inside it the adapter is off: the module is the base model."""
        ...

    def rescale_gradients(self) -> bool:
        """Called after gradients that weren't finite: whether the same backward pass may give finite ones now.

        True only where the module computes in float16 and scales its gradients (gradient_scale.py).
        """
        ...

    def adapter_state(self) -> dict[str, Tensor]:
        """The adapter's tensors by name (references, not copies); a LoRA's end with lora_A.weight, lora_B.weight."""
        ...

    def load_adapter_state(self, state: dict[str, Tensor]) -> None: ...

    def export(self, path: Path, metadata: dict[str, str]) -> None:
        """Writes the adapter as a LoRA file that stock loaders read (safetensors, atomic).

        The main process calls it; where the weights are split over processes (sharding.py) all do, and it writes.
        """
        ...
