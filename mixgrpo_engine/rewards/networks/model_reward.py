"""What the scorers with a neural network share: loaded when first needed, batched, off the device when not in use."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from ...memory.micro_batches import BatchSize
from .. import check_batch, go_on

Network = TypeVar("Network", bound=nn.Module)

LOG = logging.getLogger("mixgrpo")
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class ModelOptions:
    """How a scorer's network runs."""

    # Where it computes: a torch device.
    device: str = "cpu"
    # Of its weights and its arithmetic, one of DTYPES; scores are float32 whatever it is.
    dtype: str = "float32"
    # Images a call; 0 takes all at once. Halved by itself when memory runs out.
    batch_size: int = 16
    # Stays on the device between calls: faster, at the price of its memory.
    keep_loaded: bool = False


class Residence(Protocol):
    """Who brings a network onto its device and takes it off again."""

    def occupied(self, module: nn.Module) -> AbstractContextManager:
        """Inside it the module is on its device."""
        ...


class OwnResidence:
    """Moves the network there and back: for a worker, which has the device for itself."""

    def __init__(self, options: ModelOptions) -> None:
        self.options = options

    @contextmanager
    def occupied(self, module: nn.Module) -> Iterator[None]:
        try:
            module.to(self.options.device)
            yield
        finally:
            if not self.options.keep_loaded:
                module.to("cpu")


class ModelReward(Generic[Network]):
    """Base of the scorers with a network. A subclass gives `name`, load() and score_batch()."""

    name = "model"

    def __init__(self, options: ModelOptions | None = None, residence: Residence | None = None) -> None:
        """residence: OwnResidence when None. Raises ValueError for a dtype or a batch size that can't be."""
        self.options = options or ModelOptions()
        if self.options.batch_size < 0:
            raise ValueError(f"batch_size is {self.options.batch_size}: it must be at least 0, all images at once.")
        if self.options.dtype not in DTYPES:
            raise ValueError(f"dtype is '{self.options.dtype}': it must be one of {', '.join(DTYPES)}.")
        self.residence = residence or OwnResidence(self.options)
        self.failures: list[str] = []
        self._module: Network | None = None
        self._batch_size = BatchSize(self.options.batch_size, f"batch_size of the reward '{self.name}'", LOG.warning)

    def load(self) -> Network:
        """The network in float32 on the CPU. Raises FileNotFoundError or ValueError with one sentence."""
        raise NotImplementedError

    def score_batch(self, module: Network, images: Tensor, beside: Sequence) -> Tensor:
        """images: float32 (batch, height, width, 3) in 0..1 on the device; beside: their prompts, or what else the
        subclass judges them by. Returns (batch,).
        """
        raise NotImplementedError

    def score(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """float32 (batch,) on the CPU; NaN, with a sentence in `failures`, for an image that could not be scored.

        Raises ValueError for a wrong shape, and what load() raises.
        """
        check_batch(images, prompts)
        return self.score_beside(images, prompts)

    @torch.no_grad()
    def score_beside(self, images: Tensor, beside: Sequence) -> Tensor:
        """The same; beside: what each image is judged by, as score_batch() takes it."""
        self.failures.clear()
        if not len(images):
            return torch.zeros(0)
        module = self.module()
        images = images.detach().float()
        broken = ~images.flatten(1).isfinite().all(1).cpu()
        if broken.any():
            self.failures.append(f"{int(broken.sum())} of {len(images)} images hold values that aren't finite numbers.")
        with self.residence.occupied(module):
            scores = self._batch_size.run(lambda size: self._in_batches(module, images, beside, size), len(images))
        lost = int((~scores.isfinite() & ~broken).sum())
        if lost:
            advice = "bfloat16 or float32" if self.options.dtype == "float16" else "other weights"
            self.failures.append(
                f"{lost} of {len(images)} scores aren't finite numbers in {self.options.dtype}: try {advice}."
            )
        return scores.masked_fill(broken | ~scores.isfinite(), torch.nan)

    def module(self) -> Network:
        """The network, loaded at the first call; its gradients are off."""
        if self._module is None:
            # Loaders run under inference_mode in a server; such weights could not be moved or reused freely.
            with torch.inference_mode(False):
                module = self.load().to(DTYPES[self.options.dtype])
            self._module = module.eval().requires_grad_(False)
        return self._module

    def device_bytes(self) -> int:
        """What its network takes on a GPU while it scores; 0 on the CPU. Loads it, as the first score() would."""
        if torch.device(self.options.device).type == "cpu":
            return 0
        tensors = [*self.module().parameters(), *self.module().buffers()]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def close(self) -> None:
        """Forgets the network; the next call loads it again."""
        self._module = None
        gc.collect()

    def _in_batches(self, module: Network, images: Tensor, beside: Sequence, size: int) -> Tensor:
        size = size or len(images)
        parts = []
        for start in range(0, len(images), size):
            go_on()
            rows = slice(start, start + size)
            batch = images[rows].to(self.options.device).nan_to_num(0.0).clamp(0, 1)
            parts.append(self.score_batch(module, batch, beside[rows]).float().cpu())
        return torch.cat(parts)
