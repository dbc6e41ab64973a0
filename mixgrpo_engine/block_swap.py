"""Transformer blocks whose weights stay in host memory and come to the device while they are at work.

For a base model that is larger than the device's memory. Gradient checkpointing belongs to it: a block is then at work
from its call to its end, and once more from its second call, which the backward pass makes, to the end of that. Without
it autograd would hold on to all weights that have come. The results are those of a resident model, bit by bit.

A block's trained parameters stay on the device, and so do its vectors (biases, norms), which aren't worth a copy.
"""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .lora import blocks_of
from .transfers import in_other_memory, needs_no_wait

BYTES_A_SECOND = 12e9  # over the bus, assumed: PCIe 4.0 x16 does 20 to 25 at best, 3.0 about 12
AT_ONCE = 2  # blocks on the device: the one at work and the next one


def evenly(count: int, total: int) -> list[int]:
    """`count` of `total` blocks, as far apart as they can be: more is computed while the next one's weights come."""
    return [(2 * number + 1) * total // (2 * count) for number in range(count)]


def chosen(network: nn.Module, count: int) -> list[nn.Module]:
    """The blocks of a network that are swapped where `count` of them are."""
    blocks = blocks_of(network)
    return [blocks[place] for place in evenly(min(count, len(blocks)), len(blocks))]


def matrices(block: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """(layer, name) of the frozen weights that a block can leave in host memory."""
    for layer in block.modules():
        for name, weight in layer.named_parameters(recurse=False):
            if weight.ndim > 1 and not weight.requires_grad:
                yield layer, name


def bytes_of_blocks(network: nn.Module) -> tuple[int, ...]:
    """Of these weights, a number a block of the network."""
    return tuple(sum(getattr(layer, name).nbytes for layer, name in matrices(block)) for block in blocks_of(network))


def move_the_rest(module: nn.Module, blocks: Iterable[nn.Module], device: torch.device) -> None:
    """module.to(device), but for the weights of these blocks."""
    staying = [(layer, name, getattr(layer, name)) for block in blocks for layer, name in matrices(block)]
    for layer, name, _ in staying:
        layer._parameters[name] = None
    module.to(device)
    for layer, name, weight in staying:
        layer._parameters[name] = weight


class BlockSwap:
    """Fetches the weights of blocks for their calls, those of the next one while one is at work."""

    def __init__(self, blocks: Sequence[nn.Module], device: torch.device) -> None:
        """blocks: in the order in which they are called, with their weights in host memory and all else on `device`.

        Their forward is replaced, in place.
        """
        self.device, self.fetched = device, 0  # fetched: bytes until now
        self._transfers = _Transfers(device)
        self._places = [list(matrices(block)) for block in blocks]
        self._host = [
            [in_other_memory(getattr(layer, name), self._transfers.prepared) for layer, name in places]
            for places in self._places
        ]
        self._coming: dict[int, list[nn.Parameter]] = {}  # one block's at most
        self._last = 0
        for number, block in enumerate(blocks):
            self._put(number, self._host[number])
            block.forward = functools.partial(self._call, number, block.forward)

    def _call(self, number: int, forward: Callable, *args: Any, **kwargs: Any) -> Any:
        if number not in self._coming:
            self._coming[number] = self._fetch(number)
        self._transfers.wait()
        weights = self._coming.pop(number)
        self._coming.clear()  # after a call that has failed it holds another block's
        # The backward pass goes from the last block to the first, which then comes after the second.
        forward_pass = number > self._last or (number == 0 and self._last != 1)
        following = number + 1 if forward_pass else number - 1
        self._last = number
        if 0 <= following < len(self._host):
            self._coming[following] = self._fetch(following)
        self._put(number, weights)
        try:
            return forward(*args, **kwargs)
        finally:
            self._put(number, self._host[number])

    def _fetch(self, number: int) -> list[nn.Parameter]:
        copies: list[tuple[Tensor, Tensor]] = []

        def room_for(memory: Tensor) -> Tensor:
            copies.append((torch.empty_like(memory, device=self.device), memory))
            return copies[-1][0]

        # Made where it is computed, not beside that: so what one block gives back is free for the next one's.
        weights = [in_other_memory(weight, room_for) for weight in self._host[number]]
        with self._transfers.beside():
            for goal, memory in copies:
                goal.copy_(memory, non_blocking=needs_no_wait(self.device))
                self.fetched += memory.nbytes
        return weights

    def _put(self, number: int, weights: Sequence[nn.Parameter]) -> None:
        for (layer, name), weight in zip(self._places[number], weights, strict=True):
            layer._parameters[name] = weight


def is_swapped(holder: object) -> bool:
    """Whether a BlockSwap fetches the weights of a block; holder: its forward, or what wraps that."""
    forward = getattr(holder, "forward", holder)
    return getattr(getattr(forward, "func", None), "__func__", None) is BlockSwap._call


class _Transfers:
    """A stream beside the one that computes, on a device of CUDA's kind; on others copies are made at once."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._pins = self._stream is not None  # until the system has refused once
        self._pinned: list[int] = []  # addresses
        weakref.finalize(self, _unpin, self._pinned).atexit = False

    def prepared(self, memory: Tensor) -> Tensor:
        """The same host memory, pinned as long as this lives, where the system allows it: else copies are slower.

        Memory that torch pins itself would be a second copy of it, each tensor rounded up to a power of two.
        """
        if self._pins and not memory.is_pinned():
            place = memory.data_ptr()
            self._pins = int(torch.cuda.cudart().cudaHostRegister(place, memory.nbytes, 0)) == 0
            if self._pins:
                self._pinned.append(place)
            else:
                with contextlib.suppress(RuntimeError):  # the refusal, which the next computation would be told
                    torch.zeros(1, device=self._device).add_(1)
        return memory

    @contextlib.contextmanager
    def beside(self) -> Iterator[None]:
        """Copies made inside begin when what was asked for before has been computed, and run beside what follows."""
        if self._stream is None:
            yield
            return
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            yield

    def wait(self) -> None:
        """What is computed from now on begins when all copies are there; the program itself doesn't wait."""
        if self._stream is not None:
            torch.cuda.current_stream(self._device).wait_stream(self._stream)


def _unpin(places: list[int]) -> None:
    for place in places:
        torch.cuda.cudart().cudaHostUnregister(place)
