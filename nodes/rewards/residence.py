"""Where a scorer's network computes: by ComfyUI's model management in the server, by itself in a worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from ...mixgrpo_engine.rewards.networks.model_reward import ModelOptions, OwnResidence, Residence
from ..comfy_types import Model
from ..runs.launch import in_worker

DEVICES = ("default", "cpu")
AUTO = "auto"


def model_options(device: str, dtype: str, batch_size: int, keep_loaded: bool) -> ModelOptions:
    """The widgets' values as the engine takes them."""
    import comfy.model_management

    place = comfy.model_management.get_torch_device() if device == "default" else device
    if dtype == AUTO:
        half = device != "cpu" and comfy.model_management.should_use_fp16(place)
        dtype = "float16" if half else "float32"
    return ModelOptions(str(place), dtype, batch_size, keep_loaded)


def residence(options: ModelOptions) -> Residence:
    """In a worker, which has the device for itself, or on the CPU, where nothing is to be moved: the engine's own."""
    return OwnResidence(options) if in_worker() or options.device == "cpu" else ManagedResidence(options)


class ManagedResidence:
    """ComfyUI makes room for the network, and takes it off the device when another model needs the memory."""

    def __init__(self, options: ModelOptions) -> None:
        self.options = options
        self._patcher: Model | None = None

    @contextmanager
    def occupied(self, module: nn.Module) -> Iterator[None]:
        import comfy.model_management

        if self._patcher is None or self._patcher.model.network is not module:
            self._patcher = self._wrap(module)
        comfy.model_management.load_models_gpu([self._patcher], force_full_load=True)
        yield

    def _wrap(self, module: nn.Module) -> Model:
        import torch
        from comfy.model_patcher import ModelPatcher

        return ModelPatcher(_Holder(module), torch.device(self.options.device), torch.device("cpu"))


class _Holder(nn.Module):
    """ModelPatcher writes attributes such as `device` onto its model, which transformers' modules don't allow."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
