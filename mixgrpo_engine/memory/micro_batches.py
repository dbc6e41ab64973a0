"""Model calls in micro-batches, so that memory is bounded by a setting and not by the size of an iteration."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..policy import Condition

Result = TypeVar("Result")
# The name that every torch version has.
OutOfMemory = torch.cuda.OutOfMemoryError
OTHER_WORDS = re.compile(
    r"MPS backend out of memory|CUDA error: out of memory|Could not allocate tensor with \d+ bytes"
    r"|\[enforce fail at .*DefaultCPUAllocator: "
)
"""How plain RuntimeErrors of other devices begin: Apple's, a GPU's in a kernel, DirectML's, the CPU's."""
OUT_OF_MEMORY_CODE = 2  # of CUDA and HIP, in the errors that a kernel ends with


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device has no memory left: smaller batches may help. What ComfyUI's is_oom() says, and more devices."""
    if isinstance(error, getattr(torch, "AcceleratorError", ())):  # a RuntimeError of torch from 2.8 on
        return getattr(error, "error_code", None) == OUT_OF_MEMORY_CODE or "out of memory" in str(error).lower()
    return isinstance(error, OutOfMemory) or (isinstance(error, RuntimeError) and bool(OTHER_WORDS.match(str(error))))


def give_back_memory() -> None:
    """What torch holds on any device without using it. An error that a GPU still owes is taken, too."""
    for name in ("cuda", "xpu", "mps"):
        device: Any = getattr(torch, name, None)  # older versions don't have all of them
        if device is not None and device.is_available():
            with suppress(RuntimeError):
                device.synchronize()
            device.empty_cache()


class BatchSize:
    """How many images a model call takes: a setting, or all at once (0) until memory runs out.

    After an out-of-memory error the size is halved and the work is done again from its start, so work must not keep
    anything that a second time would spoil. A size that has worked is kept.
    """

    def __init__(self, setting: int, name: str, notice: Callable[[str], None], alone: bool = True) -> None:
        """name: of the setting; notice(message) tells when the size had to be lowered.

        alone: whether this process can do work again without the others.
        """
        self.size, self._name, self._notice, self._alone = setting, name, notice, alone

    def run(self, work: Callable[[int], Result], count: int) -> Result:
        """work(size) for `count` images. Raises the out-of-memory error when one image is too many.

        Raises RuntimeError that names the setting when the work can't be done again.
        """
        while True:
            try:
                return work(self.size)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                now = min(self.size or count, count)
                if now == 1:
                    raise
                smaller = (now + 1) // 2
                if not self._alone:
                    raise RuntimeError(
                        f"Out of memory with {now} images a model call: set {self._name} to {smaller} and start again; "
                        "the run goes on from its checkpoint."
                    ) from error
            # Outside the except block: the error holds on to the tensors of the failed work.
            self.size = smaller
            give_back_memory()
            self._notice(
                f"Out of memory with {now} images a model call: going on with {self.size}. "
                f"Set {self._name} to {self.size} to begin with it."
            )


class BatchedVelocity:
    """velocity(latents, sigma) of a module, `batch_size` images a call (0: all at once).

    Row i of the latents has the prompt of row i // (rows / prompts) of the condition: the rows are the prompts
    themselves, or whole groups of them. before_call(sigma) is called before each model call.
    """

    def __init__(
        self,
        module: Callable[[Tensor, float, Condition], Tensor],
        condition: Condition,
        batch_size: int,
        before_call: Callable[[float], None] = lambda sigma: None,
    ) -> None:
        self.module, self.condition, self.batch_size, self.before_call = module, condition, batch_size, before_call
        self._plans: dict[int, list[tuple[slice, Condition]]] = {}

    def __call__(self, latents: Tensor, sigma: float) -> Tensor:
        parts = []
        for rows, prompts in self._plan(len(latents)):
            self.before_call(sigma)
            parts.append(self.module(latents[rows], sigma, prompts))
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _plan(self, count: int) -> list[tuple[slice, Condition]]:
        """Rows and prompts of each call; made once, since every step of a rollout asks for the same."""
        if count not in self._plans:
            repeats, size = count // len(self.condition), self.batch_size or count
            self._plans[count] = [
                (
                    slice(start, min(start + size, count)),
                    self.condition.select([row // repeats for row in range(start, min(start + size, count))]),
                )
                for start in range(0, count, size)
            ]
        return self._plans[count]
