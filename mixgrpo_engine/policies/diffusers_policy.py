"""DiffusersPolicy: a FLUX.1, SD3 / SD3.5 or Chroma folder behind the engine's Policy."""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from accelerate import PartialState
from torch import Tensor, nn

from ..config import AdapterConfig
from ..distributed import sharding
from ..memory.micro_batches import give_back_memory
from ..schedule import flow_sigmas
from .diffusers_folder import DiffusersFolder, encode, reads_whole
from .encoded_prompts import EncodedPrompts
from .time_shift import time_shift
from .velocity import ChromaVelocity, FluxVelocity, PromptRows, PromptTensors, SD3Velocity, Velocity
from .weights import FullWeights, LoraWeights

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, DiffusionPipeline, ModelMixin

_CACHED_PROMPTS = 128  # that stay on the device; a prompt of FLUX is 4 MB
_PATCH = 2  # latents a side of a token, in all families


class DiffusersPolicy:
    """A diffusers transformer with what is trained of it: a LoRA, or all its weights.

    Latents are float32 (batch, channels, height / 8, width / 8) as diffusers' pipelines sample them; FLUX's and
    Chroma's are packed into tokens inside the module.
    """

    def __init__(
        self,
        folder: DiffusersFolder,
        encoded: EncodedPrompts,
        *,
        width: int,
        height: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        cfg: float = 1.0,
        negative: str = "",
        guidance: float | None = None,
        adapter: AdapterConfig,
        seed: int = 0,
        gradient_checkpointing: bool = False,
    ) -> None:
        """encoded: all prompts of the run, with `negative` where cfg isn't 1 (see encode_prompts).

        width, height: pixels. dtype: of the transformer; all weights are trained in float32 whatever it is.
        guidance: embedded guidance, where the transformer has it (FLUX.1 [dev]); None takes the pipeline's 3.5.
        seed: of the adapter's starting values. Raises ValueError for a size that doesn't fit, or a transformer that
        needs more than latents and a prompt.
        """
        self.device = torch.device(device)
        self.encoded, self.cfg, self.negative = encoded, cfg, negative
        self.scheduler = folder.scheduler()
        self.vae = folder.vae().eval().requires_grad_(False).to(self.device)
        self.vae.enable_slicing()  # an image at a time: at 1024 pixels a whole group's activations would be GBs
        full = adapter.kind == "full"
        transformer = _transformer(folder, torch.float32 if full else dtype, self.device).eval()
        self.noise_shape = latent_shape(transformer, self.vae, width, height, folder.family.packed)
        self.weights = FullWeights(transformer) if full else LoraWeights(transformer, adapter, seed)
        guidance = folder.family.guidance if guidance is None else guidance
        kinds: dict[str, Callable[..., Velocity]] = {
            "FLUX.1": functools.partial(FluxVelocity, guidance=guidance),
            "SD3": SD3Velocity,
            "Chroma": ChromaVelocity,
        }
        velocity = kinds[folder.family.name](transformer, cfg)
        if gradient_checkpointing:
            velocity.enable_checkpointing()
        self._gradient_scale = velocity.gradient_scale
        self.module: nn.Module = velocity
        self._prompt = functools.lru_cache(_CACHED_PROMPTS)(self._load_prompt)

    def sigmas(self, steps: int, shift: float = 0.0) -> Tensor:
        """float32 (steps + 1,), from 1 to 0: uniform times, shifted. shift 0 means the model's own."""
        return flow_sigmas(steps, shift or self.shift())

    def shift(self) -> float:
        """The scheduler's own time shift; a dynamic one (FLUX.1 [dev]) grows with the image, as exp(mu)."""
        tokens = self.noise_shape[1] // _PATCH * (self.noise_shape[2] // _PATCH)
        return time_shift(self.scheduler.config, tokens)

    def condition(self, prompts: Sequence[str]) -> PromptRows:
        negative = self._prompt(self.negative) if self.cfg != 1 else None
        return PromptRows([self._prompt(prompt) for prompt in prompts], negative)

    def shape_of(self, prompt: str) -> tuple[int, ...]:
        return self.noise_shape

    def noise(self, seeds: Sequence[int], prompt: str | None = None) -> Tensor:
        """(len(seeds), ...) standard normal; row i depends on seeds[i] alone."""
        rows = [torch.randn(self.noise_shape, generator=torch.Generator().manual_seed(int(seed))) for seed in seeds]
        return torch.stack(rows).to(self.device)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents to images: float32 (batch, height, width, 3) in 0..1, on the CPU."""
        config = self.vae.config
        latents = latents.detach().float() / config.scaling_factor + (config.shift_factor or 0.0)
        images = self.vae.decode(latents, return_dict=False)[0]
        return (images / 2 + 0.5).clamp(0, 1).movedim(1, -1).cpu().contiguous()

    def base(self) -> AbstractContextManager:
        """Inside it the LoRA is off. Raises RuntimeError where all weights are trained."""
        return self.weights.base()

    def rescale_gradients(self) -> bool:
        """After gradients that weren't finite: whether the next may be, being scaled otherwise (float16 only)."""
        return self._gradient_scale is not None and self._gradient_scale.lower()

    def adapter_state(self) -> dict[str, Tensor]:
        return self.weights.state()

    def load_adapter_state(self, state: dict[str, Tensor]) -> None:
        self.weights.load_state(state)

    def export(self, path: Path, metadata: dict[str, str]) -> None:
        """A LoRA file that diffusers' load_lora_weights and ComfyUI's stock loader read; with all weights a folder
        for the transformer's from_pretrained."""
        self.weights.export(Path(path), metadata)

    def load_export(self, path: Path) -> None:
        """Takes over what export() wrote."""
        self.weights.load_export(Path(path))

    def _load_prompt(self, prompt: str) -> PromptTensors:
        tensors = self.encoded[prompt]
        return PromptTensors(tensors["tokens"].to(self.device), tensors["pooled"].to(self.device))


def _transformer(folder: DiffusersFolder, dtype: torch.dtype, device: torch.device) -> ModelMixin:
    if not sharding.wanted():
        return folder.transformer(dtype).to(device)
    # The main process's weights are handed out to all, block by block: nobody's device ever holds all of them.
    return folder.transformer(dtype) if PartialState().is_main_process else folder.empty_transformer(dtype)


def encode_prompts(
    folder: DiffusersFolder,
    encoded: EncodedPrompts,
    device: torch.device | str,
    dtype: torch.dtype,
    sequence_length: int,
    numbers: Sequence[int] | None = None,
    before_each: Callable[[int], None] = lambda done: None,
) -> None:
    """Makes missing files of `encoded` (the given numbers of them) with the folder's text encoders, then frees those.

    before_each(done) is called before each prompt with the number of those done by then: for progress, and to stop by
    an exception.
    """
    numbers = encoded.missing() if numbers is None else numbers
    if not numbers:
        return
    device = torch.device(device)
    pipeline = folder.text_pipeline(dtype, device)
    done = 0

    def encode_each(prompts: Sequence[str], pipeline: DiffusionPipeline = pipeline) -> dict[str, Tensor]:
        nonlocal done
        rows = []
        for prompt in prompts:  # one at a time: the same numbers whatever stands beside it
            before_each(done)
            rows.append(encode(pipeline, [prompt], device, sequence_length))
            done += 1
        return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}

    for number in numbers:
        encoded.make(number, encode_each, functools.partial(reads_whole, pipeline, sequence_length=sequence_length))
    del pipeline, encode_each
    gc.collect()
    give_back_memory()


def latent_shape(
    transformer: ModelMixin, vae: AutoencoderKL, width: int, height: int, packed: bool
) -> tuple[int, int, int]:
    """(channels, height, width) of an image's latents. Raises ValueError for what doesn't fit together."""
    ratio = 2 ** (len(vae.config.block_out_channels) - 1)
    multiple = ratio * _PATCH
    for name, size in (("width", width), ("height", height)):
        if size < multiple or size % multiple:
            raise ValueError(f"{name} is {size}: it must be a multiple of {multiple} for this model.")
    channels = transformer.config.in_channels // (_PATCH**2 if packed else 1)
    if channels != vae.config.latent_channels:
        raise ValueError(
            f"The transformer takes {channels} channels and the VAE makes {vae.config.latent_channels}: inpainting and "
            "control models, which need a picture too, can't be trained."
        )
    largest = getattr(transformer.config, "pos_embed_max_size", None)
    if largest and max(width, height) > largest * multiple:
        limit = largest * multiple
        raise ValueError(f"{width}x{height} is too large: this model knows positions up to {limit} pixels.")
    return channels, height // ratio, width // ratio
