"""How much memory a piece of work holds at once, with real tensors or with tensors that have no data at all.

On the device "meta" tensors have shapes but no data: a model call of any size, its backward pass included, takes a
moment and no memory, and still makes and frees its tensors in the same order. Most of torch's operators work out their
results' shapes in Python there, which takes longer than all the rest. A model calls the same ones with the same shapes
again and again, block after block, so that each is asked once.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.autograd.function import BackwardCFunction, FunctionCtx
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

# Why not torch's own profiler: it sees the allocations of real devices only, and on "meta" there are none.

# Kinds of arguments beside tensors that are what they say.
_PLAIN = {type(None), bool, int, float, str, torch.dtype, torch.device, torch.layout, torch.memory_format}

_CHANGING_SIZE = {"aten::resize_", "aten::resize_as_", "aten::set_"}


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensors that are made inside it, as long as they live. `peak`: the most at once."""

    def __init__(self, known: Known | None = None) -> None:
        """known: what operators make, learned and used; shared among counters it saves time."""
        super().__init__()
        self.now = self.peak = 0
        self._counted: set[int] = set()  # storages made inside and alive
        self._known: Known = {} if known is None else known

    def __torch_dispatch__(
        self, operator: OpOverload, types: Sequence[type], args: tuple = (), kwargs: dict | None = None
    ) -> object:
        kwargs = kwargs or {}
        kind = _kind(operator)
        if kind == "view":  # gives back memory that was there before
            return _run(operator, args, kwargs)
        if kind == "in place" and args[0].device.type == "meta":
            return args[0]  # there is no data that could change
        key = _key(operator, args, kwargs) if kind == "new" else None
        layouts = self._known.get(key) if key else None
        if layouts is not None:
            return self._again(layouts)
        result = _run(operator, args, kwargs)
        made = {_storage(tensor)._cdata: _storage(tensor) for tensor in _tensors(result)}
        # Some give back what they were given all the same.
        given = {_storage(tensor)._cdata for tensor in _tensors((args, kwargs))}
        for place, storage in made.items():
            if place not in given and place not in self._counted:
                self._count(place, storage)
        if key and key not in self._known:
            self._known[key] = _layouts(result) if not made.keys() & given else None
        return result

    def _again(self, layouts: Layouts) -> object:
        """What an operator made before of arguments like these, made anew."""
        made = [_empty(*layout) for layout in layouts.of]
        for tensor in made:
            storage = _storage(tensor)
            self._count(storage._cdata, storage)
        return layouts.kind(made) if layouts.kind else made[0]

    def _count(self, place: int, storage: torch.UntypedStorage) -> None:
        self._counted.add(place)
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, place, size)

    def _free(self, place: int, size: int) -> None:
        self._counted.discard(place)
        self.now -= size


def _run(operator: OpOverload, args: tuple, kwargs: dict) -> object:
    # Called from here, an operator would turn results into its arguments' subclass, which torch itself doesn't here.
    with torch._C.DisableTorchFunctionSubclass():
        return operator(*args, **kwargs)


@dataclass(frozen=True)
class Layouts:
    """Of an operator's results: new tensors without data, each with memory of its own."""

    of: tuple[tuple[torch.Size, tuple[int, ...], torch.dtype], ...]  # size, stride, dtype
    kind: type | None  # tuple or list; None for a single tensor


def _layouts(result: object) -> Layouts | None:
    """None for what isn't just new tensors without data."""
    tensors: list[Any] = list(result) if isinstance(result, (tuple, list)) else [result]
    layouts = []
    for tensor in tensors:
        if type(tensor) is not Tensor or tensor.device.type != "meta" or tensor.layout != torch.strided:
            return None
        layout = (tensor.shape, tensor.stride(), tensor.dtype)
        if _storage(_empty(*layout)).nbytes() != _storage(tensor).nbytes():
            return None
        layouts.append(layout)
    if len({_storage(tensor)._cdata for tensor in tensors}) < len(tensors):
        return None
    return Layouts(tuple(layouts), None if isinstance(result, Tensor) else type(result))


def _empty(size: torch.Size, stride: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.empty_strided(size, stride, dtype=dtype, device="meta")


def _key(operator: OpOverload, args: tuple, kwargs: dict) -> tuple | None:
    """Everything that the layouts of an operator's results depend on; None where that can't be told from outside."""
    key = [operator]
    known = all(_describe(value, key) for value in args) and all(
        _describe(name, key) and _describe(value, key) for name, value in kwargs.items()
    )
    return tuple(key) if known else None


@functools.cache
def _kind(operator: OpOverload) -> str:
    """What an operator does, by its schema.

    "new": changes no argument, and its results are new as a rule. "view": its results are views of an argument.
    "in place": changes its first argument's data and gives it back. "other": anything else.
    """
    schema = operator._schema
    arguments, returns = ([each.alias_info for each in side] for side in (schema.arguments, schema.returns))
    if not any([*arguments, *returns]):
        return "new"
    if returns and all(returns) and not any(alias.is_write for alias in [*arguments, *returns] if alias):
        return "view"
    first = arguments[0]
    only_first = first is not None and first.is_write and not any(arguments[1:])
    changes_shape = torch.Tag.inplace_view in operator.tags or schema.name in _CHANGING_SIZE
    return "in place" if only_first and len(returns) == 1 and returns[0] and not changes_shape else "other"


def _describe(value: Any, key: list) -> bool:
    """Adds an argument to a key; False for one of an unknown kind, or a tensor with data."""
    kind = type(value)
    if issubclass(kind, Tensor):
        if kind not in (Tensor, nn.Parameter) or value.device.type != "meta" or value.dtype.is_complex:
            return False
        key.append((value.shape, value.stride(), value.dtype))
        return True
    if kind in (list, tuple, torch.Size):
        key.append((kind, len(value)))
        return all(_describe(each, key) for each in value)
    key.append((kind, value))  # the kind, because 1, 1.0 and True are equal
    return kind in _PLAIN


Known = dict[tuple, Layouts | None]  # operator and its arguments -> what it makes of them; None: can't be known


def peak_bytes(work: Callable[[], object], known: Known | None = None) -> int:
    """The most bytes that work() holds at once, beside what there was before it. Works on the CPU and on "meta".

    known: as for LiveBytes.
    """
    counter = LiveBytes(known)
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
    def __torch_function__(
        self, function: Callable, types: Sequence[type], args: tuple = (), kwargs: dict | None = None
    ) -> object:
        kwargs = kwargs or {}
        if function is scaled_dot_product_attention and args and args[0].device.type == "meta":
            return _AttentionShapes.apply(*args[:3])
        return function(*args, **kwargs)


class _AttentionShapes(torch.autograd.Function):
    """Shapes of a fused attention: it keeps its inputs, its output, and one float32 a query and head."""

    @staticmethod
    def forward(ctx: FunctionCtx, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        output = query.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(query, key, value, output, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return output

    @staticmethod
    def backward(ctx: BackwardCFunction, gradient: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.empty_like(tensor) for tensor in ctx.saved_tensors[:3])


def _tensors(values: object) -> list[Tensor]:
    """All tensors in an operator's arguments or results."""
    if isinstance(values, Tensor):
        return [values]
    if isinstance(values, dict):
        values = values.values()
    elif not isinstance(values, (tuple, list)):
        return []
    return [tensor for value in values for tensor in _tensors(value)]


def _storage(tensor: Tensor) -> torch.UntypedStorage:
    return tensor.untyped_storage()
