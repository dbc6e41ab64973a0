"""LoRA adapters through peft: inject, switch off, save, and export as files that stock loaders read.

peft wraps a linear layer and adds B(A(x)) to its output, so it works for any layer class that only behaves like a
linear layer: the layer's own casting and quantisation stay untouched.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .config import AdapterConfig
from .records import tensor_files

if TYPE_CHECKING:
    from peft.tuners.lora import LoraLayer

# The lists of transformer blocks in today's flow models (SD3, FLUX, AuraFlow, Qwen-Image, Lumina, Wan, HiDream).
BLOCK_LISTS = frozenset(
    [
        "joint_blocks",
        "double_blocks",
        "single_blocks",
        "blocks",
        "layers",
        "transformer_blocks",
        "single_transformer_blocks",
        "double_layers",
        "single_layers",
        "double_stream_blocks",
        "single_stream_blocks",
    ]
)
_ADAPTER = "default"  # peft's name for an adapter without a name


# Parameters made under inference mode, in which ComfyUI runs its nodes, could never be trained.
@torch.inference_mode(False)
def inject(module: nn.Module, config: AdapterConfig, seed: int = 0) -> list[str]:
    """Gives the chosen linear layers of `module` a LoRA, in place, and freezes everything else.

    The new model equals the old one: A is drawn from `seed` (Kaiming uniform, as peft does it), B is zero. The
    adapter has the config's dtype whatever the base's. Returns the adapted layers' names, relative to `module`.
    Raises ValueError when no layer is chosen, or the model's layers don't tell their sizes.
    """
    from peft import LoraConfig, inject_adapter_in_model
    from peft.tuners.lora import Linear as LoraLinear

    linear = {name: layer for name, layer in module.named_modules() if _is_linear(layer)}
    if not linear:
        _check_sizes(module)
    names = _chosen(list(linear), config)
    module.requires_grad_(False)
    peft_config = LoraConfig(
        r=config.rank, lora_alpha=config.alpha or config.rank, target_modules=names, init_lora_weights=False
    )
    # Some quantised layers aren't nn.Linear, which peft goes by; all it needs of a layer is its two sizes.
    unusual = {type(linear[name]) for name in names if not isinstance(linear[name], nn.Linear)}
    peft_config._register_custom_module(dict.fromkeys(unusual, LoraLinear))
    # peft draws starting values that are replaced below: the caller's random state shall not notice.
    with torch.random.fork_rng(devices=[]):
        inject_adapter_in_model(peft_config, module, adapter_name=_ADAPTER)
    _initialise(module, seed, getattr(torch, config.dtype))
    return names


def state(module: nn.Module) -> dict[str, Tensor]:
    """The adapter's tensors by name, `<layer>.lora_A.weight` and `<layer>.lora_B.weight`: references, not copies."""
    tensors = {}
    for name, layer in adapted_layers(module):
        tensors[f"{name}.lora_A.weight"] = layer.lora_A[_ADAPTER].weight
        tensors[f"{name}.lora_B.weight"] = layer.lora_B[_ADAPTER].weight
    return tensors


def parameters(module: nn.Module) -> list[nn.Parameter]:
    """The adapter's trained tensors."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


@torch.no_grad()
def load_state(module: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Copies tensors of `state` into the module's adapter.

    Raises ValueError when a tensor is missing, unknown or of another shape; nothing is changed then.
    """
    own = state(module)
    for name in own.keys() - values.keys():
        raise ValueError(f"The saved adapter has no '{name}': it belongs to another model or other target layers.")
    for name in values.keys() - own.keys():
        raise ValueError(f"The saved adapter holds '{name}', which this model has not: it belongs to another run.")
    for name, tensor in own.items():
        if tensor.shape != values[name].shape:
            raise ValueError(
                f"'{name}' is {list(values[name].shape)} in the saved adapter and {list(tensor.shape)} here: "
                "rank or model differ."
            )
    for name, tensor in own.items():
        tensor.copy_(values[name])


@contextmanager
def disabled(module: nn.Module) -> Iterator[None]:
    """Inside it the adapter is off: every layer gives exactly what it gave before `inject`."""
    layers = [layer for _, layer in adapted_layers(module)]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def export(
    module: nn.Module,
    path: str | os.PathLike,
    prefix: str = "diffusion_model.",
    metadata: Mapping[str, str] | None = None,
    scale: float = 1.0,
    fold_scale: bool = False,
) -> None:
    """Writes the adapter as a LoRA file: `<prefix><layer>.lora_A.weight`, `.lora_B.weight` and `.alpha` per layer.

    A loader adds strength * alpha / rank * B @ A to a layer's weight; `scale` multiplies alpha. fold_scale writes no
    alpha and multiplies B with alpha / rank instead, for loaders that don't know it. float32 safetensors, written
    atomically.
    """
    tensors = {prefix + name: tensor.float() for name, tensor in state(module).items()}
    for name, layer in adapted_layers(module):
        if fold_scale:
            b = f"{prefix}{name}.lora_B.weight"
            tensors[b] = tensors[b] * (scale_of(layer) * scale)
            continue
        alpha = scale_of(layer) * layer.r[_ADAPTER] * scale
        tensors[f"{prefix}{name}.alpha"] = torch.tensor(alpha, dtype=torch.float32)
    tensor_files.save(tensors, path, metadata)


def adapted_layers(module: nn.Module) -> Iterator[tuple[str, LoraLayer]]:
    """Name and peft layer of every adapted layer, in the module's order."""
    from peft.tuners.lora import LoraLayer

    for name, layer in module.named_modules():
        if isinstance(layer, LoraLayer):
            yield name, layer


def scale_of(layer: LoraLayer) -> float:
    """alpha / rank of an adapted layer."""
    return layer.scaling[_ADAPTER]


def _is_linear(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear) or (type(layer).__name__ == "Linear" and hasattr(layer, "in_features"))


def _check_sizes(module: nn.Module) -> None:
    for layer in module.modules():
        kind = type(layer)
        if kind.__name__ == "Linear":
            raise ValueError(
                f"No LoRA can be put onto this model: its linear layers ({kind.__qualname__} of "
                f"{os.path.basename(kind.__module__)}) don't tell their sizes. Load it by ComfyUI's own loaders "
                "(fp8), or from a GGUF file."
            )


def _chosen(linear: list[str], config: AdapterConfig) -> list[str]:
    """The names that the config picks out of all linear layers' names."""
    targets, exclude = _fragments(config.targets), _fragments(config.exclude)
    if targets:
        candidates = [name for name in linear if any(fragment in name for fragment in targets)]
    else:
        candidates = [name for name in linear if name.split(".")[0] in BLOCK_LISTS]
    names = [name for name in candidates if not any(fragment in name for fragment in exclude)]
    if not names:
        wanted = f"targets '{config.targets}'" if targets else "the transformer blocks"
        without = f" without '{config.exclude}'" if exclude else ""
        some = ", ".join(linear[:: max(1, len(linear) // 6)][:6]) or "none at all"
        raise ValueError(
            f"No linear layer belongs to {wanted}{without}: name fragments of the layers to train "
            f"(this model has for example {some})."
        )
    return names


def _fragments(text: str) -> list[str]:
    return [fragment.strip() for fragment in text.split(",") if fragment.strip()]


@torch.no_grad()
def _initialise(module: nn.Module, seed: int, dtype: torch.dtype) -> None:
    # Drawn on the CPU in float32: the same seed gives the same adapter on every device and for every base dtype.
    generator = torch.Generator().manual_seed(seed)
    for _, layer in adapted_layers(module):
        for part in (layer.lora_A[_ADAPTER], layer.lora_B[_ADAPTER]):
            part.to(dtype).requires_grad_(True)
        a, b = layer.lora_A[_ADAPTER].weight, layer.lora_B[_ADAPTER].weight
        a.copy_(nn.init.kaiming_uniform_(torch.empty(a.shape), a=math.sqrt(5), generator=generator))
        b.zero_()
