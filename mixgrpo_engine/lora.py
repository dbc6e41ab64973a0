"""LoRA adapters through peft: inject, switch off, save, and export as files that stock loaders read.

peft wraps a linear layer and adds B(A(x)) to its output, so it works for any layer class that only behaves like a
linear layer: the layer's own casting and quantisation stay untouched.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
_SCALE = "mixgrpo_scale"  # an exported file's metadata: alpha / rank in the training, which B has taken in
_COMPILED = re.compile(r"(^|\.)_orig_mod(?=\.|$)")  # torch.compile's name for the module that it wraps


@dataclass(frozen=True)
class Factors:
    """A layer's LoRA in a file: it adds alpha / rank * up @ down to the layer's weight."""

    down: Tensor  # (rank, inputs)
    up: Tensor  # (outputs, rank)
    alpha: float

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    def at_scale(self, scale: float) -> Factors:
        """The same LoRA with another alpha / rank."""
        return replace(self, up=self.up.float() * (self.alpha / self.rank / scale), alpha=scale * self.rank)


# Parameters made under inference mode, in which ComfyUI runs its nodes, could never be trained.
@torch.inference_mode(False)
def inject(
    module: nn.Module, config: AdapterConfig, seed: int = 0, start: Mapping[str, Factors] | None = None
) -> list[str]:
    """Gives the chosen linear layers of `module` a LoRA, in place, and freezes everything else.

    The new model equals the old one: A is drawn from `seed` (Kaiming uniform, as peft does it), B is zero. The
    adapter has the config's dtype whatever the base's. Returns the adapted layers' names, relative to `module`.

    start: a LoRA to go on from instead, by layer. Layers and ranks are its, and so is alpha unless the config has one;
    whatever that is, the new model equals the old one with that LoRA.
    Raises ValueError when no layer is chosen, one of `start` isn't linear or of another size, or the layers don't tell
    their sizes.
    """
    from peft import LoraConfig, inject_adapter_in_model

    from .lora_linear import LeanLinear

    linear = {name: layer for name, layer in module.named_modules() if _is_linear(layer)}
    if not linear:
        _check_sizes(module)
    start = start or {}
    names = [name for name in linear if plain(name) in start] if start else _chosen(list(linear), config)
    if start:
        kept = [plain(name) for name in names]
        require_all(start, kept, "layers of the LoRA are linear ones of this model", "take a LoRA of this model.")
        for name in names:
            _check_fit(plain(name), linear[name], start[plain(name)])
    module.requires_grad_(False)
    ranks = {name: start[plain(name)].rank if start else config.rank for name in names}
    alphas = {name: config.alpha or (start[plain(name)].alpha if start else config.rank) for name in names}
    peft_config = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha or config.rank,
        target_modules=names,
        init_lora_weights=False,
        # peft takes the first entry that fits the end of a layer's name.
        rank_pattern={f"^{re.escape(name)}": rank for name, rank in ranks.items()} if start else {},
        alpha_pattern={f"^{re.escape(name)}": alpha for name, alpha in alphas.items()} if start else {},
    )
    # Some quantised layers aren't nn.Linear, which peft goes by; all it needs of a layer is its two sizes.
    peft_config._register_custom_module(dict.fromkeys({type(linear[name]) for name in names}, LeanLinear))
    # peft draws starting values that are replaced below: the caller's random state shall not notice.
    with torch.random.fork_rng(devices=[]):
        inject_adapter_in_model(peft_config, module, adapter_name=_ADAPTER)
    _initialise(module, seed, getattr(torch, config.dtype), start)
    return [plain(name) for name in names]


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
    own, values = state(module), {plain(name): tensor for name, tensor in values.items()}
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
    rename: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict,
) -> None:
    """Writes the adapter as a LoRA file: `<prefix><layer>.lora_A.weight` and `.lora_B.weight` per layer.

    Loaders add strength * B @ A to a layer's weight: alpha / rank is multiplied into B, since not all of them know
    alpha. Where it is one number it goes into the metadata, for restored(). rename: gives a loader's own names in place
    of these. float32 safetensors, written atomically.
    """
    tensors = {prefix + name: tensor.detach().float() for name, tensor in state(module).items()}
    for name, layer in adapted_layers(module):
        b = f"{prefix}{name}.lora_B.weight"
        tensors[b] = tensors[b] * scale_of(layer)
    scales = {scale_of(layer) for _, layer in adapted_layers(module)}
    scale = {_SCALE: repr(scales.pop())} if len(scales) == 1 else {}
    tensor_files.save(rename(tensors), path, {**(metadata or {}), **scale})


def read(path: str | os.PathLike, prefix: str) -> dict[str, Factors]:
    """The reverse of export(), by layer, restored(); an alpha is taken, too.

    Raises ValueError with one sentence that counts and names what else the file holds.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"The LoRA {path} can't be read ({error}): name a .safetensors file.") from None
    found, known = {}, set()
    for name in tensors:
        layer = name.removeprefix(prefix).removesuffix(".lora_A.weight")
        down, up, alpha = (f"{prefix}{layer}.{part}" for part in ("lora_A.weight", "lora_B.weight", "alpha"))
        if name == down and up in tensors:
            rank = tensors[down].shape[0]
            found[layer] = Factors(tensors[down], tensors[up], float(tensors.get(alpha, torch.tensor(rank))))
            known |= {down, up, alpha}
    what = f"tensors of {path} are {prefix}<layer>.lora_A.weight or .lora_B.weight"
    require_all(tensors, known, what, "take a plain LoRA in diffusers' names.")
    return restored(found, path)


def restored(factors: dict[str, Factors], path: str | os.PathLike) -> dict[str, Factors]:
    """What a file holds, and if export() wrote it, at the alpha / rank of its training: it then learns as it did."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            scale = float((file.metadata() or {})[_SCALE])
    except (KeyError, ValueError, OSError, SafetensorError):  # another program's, or another format
        return factors
    return {name: each.at_scale(scale) for name, each in factors.items()} if 0 < scale < math.inf else factors


def require_all(wanted: Iterable[str], there: Iterable[str], what: str, advice: str) -> None:
    """Raises ValueError with one sentence when some of `wanted` aren't `there`: how many, and the first names."""
    wanted, there = list(wanted), set(there)
    missing = [name for name in wanted if name not in there]
    if missing or not wanted:
        more = f" and {len(missing) - 3} others" if len(missing) > 3 else ""
        names = f", not {', '.join(missing[:3])}{more}" if missing else ""
        raise ValueError(f"Only {len(wanted) - len(missing)} of {len(wanted)} {what}{names}: {advice}")


def in_blocks(layer: str) -> bool:
    """Whether a layer belongs to the transformer blocks, by its name."""
    return plain(layer).split(".")[0] in BLOCK_LISTS


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """The transformer blocks, in the order in which they are called."""
    return [block for name, blocks in network.named_children() if name in BLOCK_LISTS for block in blocks.children()]


def plain(name: str) -> str:
    """A layer's name without what torch.compile puts into it: no loader knows that."""
    return _COMPILED.sub("", name).removeprefix(".")


def adapted_layers(module: nn.Module) -> Iterator[tuple[str, LoraLayer]]:
    """Plain name and peft layer of every adapted layer, in the module's order."""
    from peft.tuners.lora import LoraLayer

    for name, layer in module.named_modules():
        if isinstance(layer, LoraLayer):
            yield plain(name), layer


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


def _check_fit(name: str, layer: nn.Module, factors: Factors) -> None:
    wanted = [factors.rank, layer.in_features], [layer.out_features, factors.rank]
    found = list(factors.down.shape), list(factors.up.shape)
    if found != wanted:
        raise ValueError(
            f"The LoRA's layer {name} has the sizes {found[0]} and {found[1]}, but this model's needs {wanted[0]} and "
            f"{wanted[1]}: take a LoRA of this model."
        )


def _chosen(linear: list[str], config: AdapterConfig) -> list[str]:
    """The names that the config picks out of all linear layers' names."""
    targets, exclude = _fragments(config.targets), _fragments(config.exclude)
    if targets:
        candidates = [name for name in linear if any(fragment in name for fragment in targets)]
    else:
        candidates = [name for name in linear if in_blocks(name)]
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
def _initialise(module: nn.Module, seed: int, dtype: torch.dtype, start: Mapping[str, Factors]) -> None:
    # Drawn on the CPU in float32: the same seed gives the same adapter on every device and for every base dtype.
    generator = torch.Generator().manual_seed(seed)
    for name, layer in adapted_layers(module):
        for part in (layer.lora_A[_ADAPTER], layer.lora_B[_ADAPTER]):
            part.to(dtype).requires_grad_(True)
        a, b = layer.lora_A[_ADAPTER].weight, layer.lora_B[_ADAPTER].weight
        if start:
            factors = start[name].at_scale(scale_of(layer))
            a.copy_(factors.down)
            b.copy_(factors.up)
            continue
        a.copy_(nn.init.kaiming_uniform_(torch.empty(a.shape), a=math.sqrt(5), generator=generator))
        b.zero_()
