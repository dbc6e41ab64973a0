"""torch.compile of a model's transformer blocks, all of it before the first iteration.

One function is compiled for each class of block, not one for the whole model: blocks are alike, and what stands around
them may be anything. Rollout and update call the same blocks. Numbers of images and tokens are left open, so that what
was compiled at the start fits every model call; where it doesn't, a block runs as it is: nothing compiles in mid-run.
"""

from __future__ import annotations

import functools
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ..block_swap import is_swapped
from ..config import TrainConfig
from ..distributed.lockstep import Lockstep
from ..distributed.ranks import Ranks
from ..lora import BLOCK_LISTS
from ..policy import Policy
from ..records.events import Stage
from ..records.readable import readable, words_of
from .pulse import Pulse, Stopped

# Of one class: for one image and for several, without gradients, with them, and without the LoRA; a first block has its
# own, because nothing before it needs a gradient.
MOST_VARIANTS = 64

REASON = 200  # characters of what a compiler says


class CompiledBlocks:
    """The transformer blocks of a module, which compile() gives compiled forwards."""

    def __init__(self, module: nn.Module) -> None:
        self.ahead = False  # whether all is compiled that ever will be
        self._forwards: list[tuple[Any, types.MethodType]] = []  # who calls a block's own forward, and that
        self.swapped = 0  # blocks that stay as they are, because each call fetches their weights
        for block in _blocks_of(module):
            # Whoever wraps a block's forward (checks, checkpointing) keeps it in an attribute of the same name.
            holder = vars(block).get("forward", block)
            if getattr(getattr(holder, "forward", None), "__func__", None) is type(block).forward:
                self._forwards.append((holder, holder.forward))
            else:
                self.swapped += is_swapped(holder)

    def __len__(self) -> int:
        return len(self._forwards)

    def compile(self, calls: Callable[[], None]) -> None:
        """Makes the calls, and with them whatever is to be compiled.

        Raises what the compiler raises; the blocks are then as they were.
        """
        functions: dict[type, Callable] = {}
        if not hasattr(torch.compiler, "set_stance"):
            raise RuntimeError(f"PyTorch is {torch.__version__}, and 2.6 or newer is needed")
        try:
            for holder, forward in self._forwards:
                kind = type(forward.__self__)
                if kind not in functions:
                    functions[kind] = torch.compile(_function_of(kind), dynamic=True, fullgraph=True)
                holder.forward = functools.partial(self._call, functions[kind], forward.__self__)
            with _compiler_settings():
                calls()
        except BaseException:
            for holder, forward in self._forwards:
                holder.forward = forward
            raise
        self.ahead = True

    def _call(self, function: Callable, block: Any, *args: Any, **kwargs: Any) -> Any:
        # A view would have code of its own, as the first block's input often is one.
        args, kwargs = tuple(map(_no_view, args)), {name: _no_view(value) for name, value in kwargs.items()}
        with torch.compiler.set_stance("eager_on_recompile") if self.ahead else nullcontext():
            return function(type(block).forward, block, args, kwargs)


def compile_ahead(
    policy: Policy, module: Lockstep, prompt: str, config: TrainConfig, pulse: Pulse, ranks: Ranks
) -> None:
    """Compiles the blocks of the policy's module, and tells it. Where that fails they stay as they are, with a notice.

    module: as accelerate prepared it. prompt: any one. Raises Stopped when the run is asked to stop meanwhile.
    """
    started, blocks = time.monotonic(), CompiledBlocks(policy.module)

    def call(images: int) -> Tensor:
        if ranks.count == 1:
            pulse.raise_if_stopped()
        noise = policy.noise(range(images), prompt).to(policy.device)
        return module(noise, 0.5, policy.condition([prompt] * images))

    def calls() -> None:
        for images in _sizes(config.rollout.batch_size):
            with torch.no_grad():
                call(images)
                if config.loss.kl_weight > 0:
                    with policy.base():
                        call(images)
        for images in _sizes(config.optimizer.batch_size):
            call(images).square().mean().backward()
        policy.module.zero_grad()

    if why := _obstacle(policy.module, blocks, ranks):
        pulse.notice(f"The model isn't compiled, because {why}: the training goes on without.")
        return
    others = f", but not the {blocks.swapped} whose weights stay in host memory" if blocks.swapped else ""
    pulse.emit(Stage("compile", f"Compiling {len(blocks)} of the model's transformer blocks{others}."))
    try:
        calls()  # as they are: checks of the blocks' own code see that code, and errors of the model are no compiler's
        blocks.compile(calls)
    except Stopped:
        raise
    except Exception as error:  # compilers raise anything, and without them all works
        policy.module.zero_grad()
        words = readable(words_of(error).splitlines()[0], REASON)
        pulse.notice(
            f"The model's blocks can't be compiled ({type(error).__name__}: {words}): the training goes on without."
        )
    seconds = time.monotonic() - started
    done = f"The model's blocks are compiled, in {seconds:.0f} s." if blocks.ahead else ""
    pulse.emit(Stage("train", done))


def _obstacle(module: nn.Module, blocks: CompiledBlocks, ranks: Ranks) -> str:
    """Why there is nothing to try, in words; "" if there is."""
    if ranks.split:
        return "its weights are split over processes"
    if not len(blocks):
        return (
            "all its blocks' weights stay in host memory" if blocks.swapped else "its transformer blocks aren't known"
        )
    if any(map(_recasts, module.modules())):
        return "quantised layers can be compiled with gradient_checkpointing only"
    return ""


def _recasts(layer: Any) -> bool:
    """Whether it makes its weight anew for the backward pass, which can't be compiled: see LeanLinear."""
    if not getattr(layer, "recasts", False):
        return False
    weight = layer.base_layer.weight
    return type(weight.data) is not Tensor or weight.element_size() < 2


def _sizes(batch_size: int) -> tuple[int, ...]:
    """Images a call. One image has code of its own; what is compiled for three fits any number.

    Not for two: torch takes sizes that are equal for one and the same, and blocks see a pair of numbers elsewhere
    (positions as cosine and sine), so that the number of images would be fixed with it.
    """
    return (1, min(batch_size or 3, 3))


def _blocks_of(module: nn.Module) -> Iterator[nn.Module]:
    for owner in module.modules():
        for name, blocks in owner.named_children():
            if name in BLOCK_LISTS and isinstance(blocks, nn.ModuleList):
                yield from blocks


def _function_of(kind: type) -> Callable:
    """_run for blocks of one class: torch counts what it has compiled by a function's code, so each has its own."""
    return types.FunctionType(_run.__code__.replace(co_name=f"run_{kind.__name__}"), globals())


def _run(forward: Callable, block: nn.Module, args: tuple, kwargs: dict[str, Any]) -> Any:
    """forward: of the block's class, which diffusers keeps torch from looking into."""
    # On copies: a compiled function whose inputs are changed in place has no backward pass.
    return forward(block, *map(_copy, args), **{name: _copy(value) for name, value in kwargs.items()})


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _no_view(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) and value._base is not None else value


@contextmanager
def _compiler_settings() -> Iterator[None]:
    import torch._dynamo as dynamo
    import torch._inductor.config as inductor

    # Older versions have another name for it.
    name = "recompile_limit" if hasattr(dynamo.config, "recompile_limit") else "cache_size_limit"
    # Otherwise the compiler chooses among kernels by their speed at this start.
    strict = {"deterministic": True} if torch.are_deterministic_algorithms_enabled() else {}
    with dynamo.config.patch({name: MOST_VARIANTS}), inductor.patch(strict):
        yield
