"""Model inputs that stay on the device: those asked for last, up to a number of bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from torch import Tensor

from .condition import ModelInputs

CACHED_BYTES = 512 * 2**20  # a T5 prompt of FLUX is 4 MB, an item with pictures may be 30


class InputCache:
    """prepare(prompt, kind, shape of the latents), remembered."""

    def __init__(self, prepare: Callable[[str, str, tuple[int, ...]], ModelInputs], most: int = CACHED_BYTES) -> None:
        self.prepare, self.most = prepare, most
        self._kept: OrderedDict[tuple[str, str, tuple[int, ...]], ModelInputs] = OrderedDict()
        self._bytes = 0

    def __call__(self, prompt: str, kind: str, shape: tuple[int, ...]) -> ModelInputs:
        key = prompt, kind, shape
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        made = self.prepare(*key)
        self._kept[key] = made
        self._bytes += bytes_of(made)
        while self._bytes > self.most and len(self._kept) > 1:
            self._bytes -= bytes_of(self._kept.popitem(last=False)[1])
        return made


def bytes_of(inputs: ModelInputs) -> int:
    total = 0
    for condition in inputs.values():
        values = condition.cond if isinstance(condition.cond, list) else [condition.cond]
        total += sum(value.numel() * value.element_size() for value in values if isinstance(value, Tensor))
    return total
