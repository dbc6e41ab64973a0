"""Weights split over the processes of a run (FSDP2, through accelerate), for training all weights of a large model.

`accelerate launch --use_fsdp --fsdp_version 2` asks for it. Each process then holds its share of every weight, of its
gradient and of the optimizer's state; a block's weights are put together while it computes, and parted again.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeGuard

import accelerate
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin, InitProcessGroupKwargs, broadcast
from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

VERSION = "2"  # of FSDP
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}

# How long processes wait for another that is at something of its own: writing a large checkpoint to a slow disk, or
# waiting for a judge.
PATIENCE = timedelta(hours=2)


def wanted() -> bool:
    """Whether the run was launched with FSDP, in more than one process."""
    asked = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    return asked and int(os.environ.get("WORLD_SIZE", "1")) > 1


def check_launch(adapter_kind: str) -> None:
    """Raises ValueError with one sentence when weights can't be split as the launch asks."""
    if os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true":
        raise ValueError("The run was launched with DeepSpeed: use --use_fsdp --fsdp_version 2 in its place.")
    if not wanted():
        return
    if "fsdp_version" not in FullyShardedDataParallelPlugin.__dataclass_fields__:
        raise ValueError(f"accelerate {accelerate.__version__} doesn't know FSDP2: pip install -U accelerate.")
    version = os.environ.get("FSDP_VERSION", "1")
    if version != VERSION:
        raise ValueError(f"The run was launched with FSDP version {version}: add --fsdp_version {VERSION}.")
    if adapter_kind != "full":
        raise ValueError(
            f"FSDP splits the weights that are trained, and adapter.kind is '{adapter_kind}': set it to 'full', or "
            "launch with --multi_gpu in place of --use_fsdp."
        )


def load_models_whole() -> None:
    """Every process loads text encoders and scorers for itself, whatever the launch says.

    transformers 4 would leave their weights uninitialized in all processes but one; only the transformer that is
    trained is handed out from there (prepare).
    """
    if wanted():
        os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"


def make_accelerator(mixed_precision: str, cpu: bool) -> Accelerator:
    """accelerate's Accelerator, with FSDP if the launch asks for it."""
    plugin = _plugin(mixed_precision) if wanted() else None
    made = Accelerator(
        mixed_precision=mixed_precision,
        cpu=cpu,
        device_placement=False,
        fsdp_plugin=plugin,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],  # where nobody has made the group before
    )
    if plugin is not None and made.distributed_type == DistributedType.MULTI_CPU:
        # On CPUs accelerate leaves FSDP out, though PyTorch's works there. Told so, it does the rest by itself.
        made.state._shared_state.update(distributed_type=DistributedType.FSDP, fsdp_plugin=plugin)
        PartialState._shared_state["distributed_type"] = DistributedType.FSDP
    return made


def prepare(
    accelerator: Accelerator, module: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[nn.Module, torch.optim.Optimizer]:
    """(module, optimizer), split over the processes. The module stays the same object, its parameters don't.

    Only the main process needs the weights; the others' may be uninitialized memory.
    """
    buffers = [
        (owner, name, buffer, name not in owner._non_persistent_buffers_set)
        for owner in module.modules()
        for name, buffer in owner.named_buffers(recurse=False)
    ]
    # accelerate sends parameters from the main process to all, and fails at buffers that are part of the state.
    for owner, name, buffer, _ in buffers:
        owner.register_buffer(name, broadcast(buffer.to(accelerator.device)), persistent=False)
    module, optimizer = accelerator.prepare(module, optimizer)
    for owner, name, _, persistent in buffers:
        owner.register_buffer(name, owner.get_buffer(name), persistent=persistent)
    return module, optimizer


def gathered_state(module: nn.Module) -> dict[str, Any]:
    """A split module's state on the CPU in the main process; empty in the others, which must call it too."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    return get_model_state_dict(module, options=StateDictOptions(full_state_dict=True, cpu_offload=True))


def is_split(tensor: Tensor) -> TypeGuard[DTensor]:
    """Whether this process holds only a share of the tensor (a DTensor)."""
    return hasattr(tensor, "full_tensor")


def own_part(tensor: Tensor) -> Tensor:
    """This process's share of a tensor; one that isn't split is its own."""
    return tensor.to_local() if is_split(tensor) else tensor


def gathered(tensor: Tensor) -> Tensor:
    """The tensor put together; every process must call it. One that isn't split stays itself."""
    return tensor.full_tensor() if is_split(tensor) else tensor


def gathered_in_main(tensor: Tensor) -> Tensor | None:
    """The tensor put together on the CPU in the main process, None in the others, which must call it too."""
    if not is_split(tensor):
        return tensor
    values = tensor.full_tensor()
    return values.cpu() if PartialState().is_main_process else None


@torch.no_grad()
def copy_into(target: Tensor, values: Tensor) -> None:
    """Copies a whole tensor's values into one that may be split, of which each process takes its share."""
    if is_split(target):
        from torch.distributed.tensor import distribute_tensor

        values = values.to(target.device)
        values = distribute_tensor(values, target.device_mesh, target.placements, src_data_rank=None)
    target.copy_(values)


def _plugin(mixed_precision: str) -> FullyShardedDataParallelPlugin:
    from torch.distributed.fsdp import MixedPrecisionPolicy

    # Not cast_forward_inputs: it would round noise levels too. Gradients are summed unrounded.
    precision = MixedPrecisionPolicy(
        param_dtype=DTYPES.get(mixed_precision), reduce_dtype=torch.float32, cast_forward_inputs=False
    )
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=int(VERSION),
        auto_wrap_policy="transformer_based_wrap",
        # lockstep.py counts on it: blocks that stayed together would be stale once an average has taken their place.
        reshard_after_forward=True,
        mixed_precision_policy=precision,
        cpu_offload=False,
        activation_checkpointing=False,  # the transformer's own, by run.gradient_checkpointing
        cpu_ram_efficient_loading=True,
        state_dict_type="FULL_STATE_DICT",  # one file, read as tensors only; the split kind of file holds a pickle
    )
    load_models_whole()  # the plugin has asked for the contrary
    return plugin
