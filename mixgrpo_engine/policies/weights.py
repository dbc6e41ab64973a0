"""What of a transformer is trained, and how it is saved: a LoRA, or all its weights."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from accelerate import PartialState
from safetensors.torch import load_file
from torch import Tensor

from .. import lora
from ..config import AdapterConfig
from ..distributed.sharding import gathered_state, is_split
from ..records.files import remove, replace, write_json

if TYPE_CHECKING:
    from diffusers import ModelMixin

# What diffusers' load_lora_weights expects before a layer's name; ComfyUI's loader knows it too.
PREFIX = "transformer."


class LoraWeights:
    """A LoRA on a transformer."""

    def __init__(self, transformer: ModelMixin, config: AdapterConfig, seed: int) -> None:
        self.transformer = transformer
        start = lora.read(config.start_from, PREFIX) if config.start_from else None
        self.layers = lora.inject(transformer, config, seed, start)

    def state(self) -> dict[str, Tensor]:
        return lora.state(self.transformer)

    def load_state(self, values: Mapping[str, Tensor]) -> None:
        lora.load_state(self.transformer, values)

    def base(self) -> AbstractContextManager:
        return lora.disabled(self.transformer)

    def export(self, path: Path, metadata: Mapping[str, str]) -> None:
        """A file for diffusers' load_lora_weights and for ComfyUI's stock LoRA loader."""
        lora.export(self.transformer, path, PREFIX, metadata)

    def load_export(self, path: Path) -> None:
        """The reverse of export(). Raises ValueError for a LoRA of another model."""
        values = {name.removeprefix(PREFIX): tensor for name, tensor in load_file(path).items()}
        for name, layer in lora.adapted_layers(self.transformer):
            b = f"{name}.lora_B.weight"
            if b in values:
                values[b] = values[b] / lora.scale_of(layer)
        self.load_state(values)


class FullWeights:
    """All weights of a transformer. There is no second copy of it, so the base model is gone once it has learned."""

    def __init__(self, transformer: ModelMixin) -> None:
        """Raises ValueError unless the weights are float32: smaller ones would round most updates away."""
        dtype = next(transformer.parameters()).dtype
        if dtype != torch.float32:
            raise ValueError(f"Training all weights needs them in float32, not {dtype}: use mixed precision instead.")
        self.transformer = transformer.requires_grad_(True)

    def state(self) -> dict[str, Tensor]:
        return dict(self.transformer.named_parameters())

    @torch.no_grad()
    def load_state(self, values: Mapping[str, Tensor]) -> None:
        own = self.state()
        for name in own.keys() ^ values.keys():
            raise ValueError(f"The saved weights and this model differ in '{name}': they belong to another model.")
        for name, parameter in own.items():
            if parameter.shape != values[name].shape:
                raise ValueError(
                    f"'{name}' is {list(values[name].shape)} in the saved weights and {list(parameter.shape)} here: "
                    "they belong to another model."
                )
        for name, parameter in own.items():
            parameter.copy_(values[name])

    def base(self) -> AbstractContextManager:
        raise RuntimeError("Where all weights are trained the base model isn't kept: set kl_weight to 0 or use a LoRA.")

    def export(self, path: Path, metadata: Mapping[str, str]) -> None:
        """A folder for the transformer class's from_pretrained, whole or not at all; metadata as metadata.json.

        Where the weights are split over processes, all must call it, and the main one writes.
        """
        transformer = self.transformer
        if is_split(next(transformer.parameters())):
            state = gathered_state(transformer)
            if not PartialState().is_main_process:
                return
            with torch.device("meta"):
                transformer = type(transformer).from_config(transformer.config)
            transformer.load_state_dict(state, assign=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        remove(temporary)
        transformer.save_pretrained(temporary)
        write_json(temporary / "metadata.json", dict(metadata))
        old = path.with_name(f".{path.name}.{os.getpid()}.old.tmp")
        if path.exists():
            replace(path, old)
        replace(temporary, path)
        with suppress(OSError):  # the new one is in its place
            remove(old)

    def load_export(self, path: Path) -> None:
        """The reverse of export()."""
        saved = type(self.transformer).from_pretrained(path, local_files_only=True, use_safetensors=True)
        self.load_state(dict(saved.named_parameters()))
