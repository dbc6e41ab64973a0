"""How much memory a piece of work holds at once, with real tensors or with tensors that have no data at all.

On the device "meta" tensors have shapes but no data: a model call of any size, its backward pass included, takes a
moment and no memory, and still makes and frees its tensors in the same order.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# Why not torch's own profiler: it sees the allocations of real devices only, and on "meta" there are none.


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensors that are made inside it, as long as they live. `peak`: the most at once."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self._counted: set[int] = set()  # storages made inside and alive

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = operator(*args, **kwargs)
        made = {_storage(tensor)._cdata: _storage(tensor) for tensor in _tensors(result)}
        # Views and in-place updates give back memory that was there before.
        given = {_storage(tensor)._cdata for tensor in _tensors((args, kwargs))}
        for place, storage in made.items():
            if place not in given and place not in self._counted:
                self._count(place, storage)
        return result

    def _count(self, place: int, storage: torch.UntypedStorage) -> None:
        self._counted.add(place)
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, place, size)

    def _free(self, place: int, size: int) -> None:
        self._counted.discard(place)
        self.now -= size


def peak_bytes(work: Callable[[], object]) -> int:
    """The most bytes that work() holds at once, beside what there was before it. Works on the CPU and on "meta"."""
    counter = LiveBytes()
    with counter:
        work()
    return counter.peak


@contextmanager
def attention_without_matrix() -> Iterator[None]:
    """Inside it attention on "meta" keeps what the fused kernels of the CPU and of GPUs keep.

    torch itself takes the textbook's formula there, with a matrix of tokens x tokens that no real device makes.
    """
    with _FusedAttention():
        yield


class _FusedAttention(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is scaled_dot_product_attention and args and args[0].device.type == "meta":
            return _AttentionShapes.apply(*args[:3])
        return function(*args, **kwargs)


class _AttentionShapes(torch.autograd.Function):
    """Shapes of a fused attention: it keeps its inputs, its output, and one float32 a query and head."""

    @staticmethod
    def forward(ctx, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        output = query.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(query, key, value, output, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return output

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return tuple(torch.empty_like(tensor) for tensor in ctx.saved_tensors[:3])


def _tensors(values) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def _storage(tensor: Tensor) -> torch.UntypedStorage:
    return tensor.untyped_storage()
