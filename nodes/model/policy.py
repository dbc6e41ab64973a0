"""ComfyPolicy: ComfyUI's MODEL and VAE behind the engine's Policy protocol."""

from __future__ import annotations

import copy
import functools
import hashlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from torch import Tensor, nn

from ...mixgrpo_engine import block_swap, lora
from ...mixgrpo_engine.config import AdapterConfig
from ...mixgrpo_engine.gradient_scale import GradientScale
from ...mixgrpo_engine.transfers import send
from ..comfy_types import Conditioning, LatentFormat, Model, Vae
from . import gradients, item_checks, lora_names, schedule
from .condition import ModelInputs, PromptCondition, model_inputs
from .conditioning import Encoded
from .decoding import decode_images, needs_tiles, unload
from .encodings import StoredEncodings
from .families import check_guidance, check_trainable, with_guidance
from .frozen_copy import private_copy
from .input_cache import InputCache
from .model_options import settled
from .module import VelocityModule
from .precision import use_training_dtype
from .video import filmstrip, latent_frames

BASE_IMAGES = 4  # of a taste's model calls, which come beside a rollout's memory
SMALL_WEIGHT = 2**16  # values


class ComfyPolicy:
    """A MODEL with a trainable LoRA. The MODEL itself isn't changed: training happens on a private copy.

    Latents are float32 (batch, channels, height / 8, width / 8), or (batch, channels, time, ...) for models
    whose latents have a time axis, in the space in which ComfyUI's samplers work.
    """

    def __init__(
        self,
        model: Model,
        vae: Vae,
        encoded: Encoded | StoredEncodings,
        *,
        width: int,
        height: int,
        cfg: float = 1.0,
        negative: str = "",
        guidance: float = 0.0,
        frames: int = 1,
        adapter: AdapterConfig,
        seed: int,
        gradient_checkpointing: bool = False,
        swapped_blocks: int = 0,
    ) -> None:
        """model, vae: ComfyUI's MODEL and VAE. encoded: all prompts of the run, with `negative` where cfg isn't 1 and
        items don't bring their own.

        guidance: input of guidance-distilled models (FLUX.1-dev), for prompt and negative prompt alike; 0 leaves it to
        the prompts' own, or the model's default. frames: of a video, 1 for images. width, height: pixels of an image or
        frame. seed: of the adapter's starting values. swapped_blocks: transformer blocks whose weights stay in host
        memory (block_swap.py), always with gradient_checkpointing.
        Raises ValueError for a MODEL that can't be trained as it is sampled, or a size, VAE, target or guidance that
        doesn't fit it. What of the MODEL was left out is told in `notices`.
        """
        check_trainable(model, encoded.of_items)
        if adapter.kind != "lora":
            raise ValueError(f"The adapter's kind is '{adapter.kind}': a ComfyUI MODEL is trained by a LoRA only.")
        check_guidance(model.model, guidance)
        self.vae = vae
        self.encoded = encoded
        self.cfg = cfg
        self.negative = negative
        self.guidance = guidance
        self.device: torch.device = model.load_device
        length = latent_frames(model, vae, frames)
        self.noise_shape = latent_shape(model.model.latent_format, vae, width, height, length)
        self.notices: list[str]
        model, self.notices = settled(model, self.noise_shape)
        gradients.enable_training_mode()
        self._model = private_copy(model, swapped_blocks)
        self.dtype = use_training_dtype(self._model, self.device, self.notices)
        self._model_sampling = copy.deepcopy(self._model.model_sampling)
        self._names = lora_names.FileNames(self._model)
        start = lora_names.start_of(adapter, self._model)
        self.adapted_layers = lora.inject(self._model.diffusion_model, adapter, seed, start)
        self._names.require(self.adapted_layers)
        network = self._model.diffusion_model
        swapped = block_swap.chosen(network, swapped_blocks)
        block_swap.move_the_rest(network, swapped, self.device)  # the LoRA is where its layer's weight is
        self.swap = block_swap.BlockSwap(swapped, self.device) if swapped else None
        gradients.prepare(network, gradient_checkpointing or bool(swapped))
        self._gradient_scale = None
        if self.dtype == torch.float16:
            self._gradient_scale = GradientScale(lora.parameters(self._model.diffusion_model))
        self.module: nn.Module = VelocityModule(self._model, model.model_options, cfg, self._gradient_scale)
        self._inputs = InputCache(self._prepare_inputs)
        self._shapes = {
            prompt: (*self.noise_shape[:-2], *shape[-2:]) for prompt, shape in encoded.latent_shapes().items() if shape
        }
        self._own_negatives = has_own_negatives(encoded)
        if encoded.of_items:
            self._check_first_item()

    def sigmas(self, steps: int, shift: float = 0.0) -> Tensor:
        """float32 (steps + 1,), from 1 to 0. shift 0 means the MODEL's own; FLUX's mu is log(shift)."""
        return schedule.model_sigmas(self._model_sampling, steps, shift)

    def shift(self) -> float:
        """The MODEL's own time shift s, as in sigma = s * t / (1 + (s - 1) * t)."""
        return schedule.model_shift(self._model_sampling)

    def condition(self, prompts: Sequence[str]) -> PromptCondition:
        negatives = [self._negative(prompt) for prompt in prompts] if self.cfg != 1 else None
        return PromptCondition([self._positive(prompt) for prompt in prompts], negatives, self.device)

    def shape_of(self, prompt: str) -> tuple[int, ...]:
        """That of its item's latent, where one is connected."""
        return self._shapes.get(prompt, self.noise_shape)

    def noise(self, seeds: Sequence[int], prompt: str | None = None) -> Tensor:
        """(len(seeds), ...) standard normal; row i depends on seeds[i] alone."""
        shape = self.noise_shape if prompt is None else self.shape_of(prompt)
        return send(seeded_noise(shape, seeds), self.device)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents to images: float32 (batch, height, width, 3) in 0..1, on the CPU; of a video its filmstrip."""
        samples = self._model.process_latent_out(latents.detach().float())
        try:
            images = decode_images(self.vae, samples, needs_tiles(self.vae, samples.shape))
        finally:
            unload(self.vae)
        return filmstrip(images, len(latents))

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """The reverse of decode() for single images of any size: latents (batch, ...) on the device."""
        width, height = (size * self.vae.spacial_compression_decode() for size in reversed(self.noise_shape[-2:]))
        pixels = images.detach().float().cpu().movedim(-1, 1)
        if pixels.shape[-2:] != (height, width):
            pixels = nn.functional.interpolate(pixels, (height, width), mode="area")
        try:
            encoded = self.vae.encode(pixels.movedim(1, -1))
        finally:
            unload(self.vae)
        return self._model.process_latent_in(encoded.float()).to(self.device).view(len(images), *self.noise_shape)

    def base_velocity(self, latents: Tensor, sigma: float, prompts: Sequence[str], images: int = BASE_IMAGES) -> Tensor:
        """The base model's, without guidance, some images a model call; only for prompts that are encoded."""
        parts = []
        for start in range(0, len(latents), images):
            rows = slice(start, start + images)
            condition = PromptCondition([self._positive(prompt) for prompt in prompts[rows]], None, self.device)
            with torch.no_grad(), self.base():
                parts.append(self.module(latents[rows], sigma, condition))
        return torch.cat(parts)

    def fingerprint(self) -> str:
        """Of the base model and the images' size: what prompt fits of one model say is nothing for another."""
        frozen = [(name, each) for name, each in self._model.named_parameters() if not each.requires_grad]
        made = hashlib.sha256(str([self.noise_shape, [(name, tuple(each.shape)) for name, each in frozen]]).encode())
        small = [each for _, each in frozen if each.numel() <= SMALL_WEIGHT and type(each) is nn.Parameter]
        for each in small[:: max(1, len(small) // 8)]:
            made.update(each.detach().float().cpu().contiguous().numpy().tobytes())
        return made.hexdigest()[:16]

    def base(self) -> AbstractContextManager:
        return lora.disabled(self.module)

    def rescale_gradients(self) -> bool:
        """After gradients that weren't finite: whether the next may be, being scaled otherwise (float16 only)."""
        return self._gradient_scale is not None and self._gradient_scale.lower()

    def adapter_state(self) -> dict[str, Tensor]:
        return lora.state(self._model.diffusion_model)

    def load_adapter_state(self, state: dict[str, Tensor]) -> None:
        lora.load_state(self._model.diffusion_model, state)

    def export(self, path: Path, metadata: dict[str, str]) -> None:
        lora.export(self._model.diffusion_model, path, metadata=metadata, rename=self._names.rename)

    def _positive(self, prompt: str) -> ModelInputs:
        return self._inputs(prompt, "positive", self.shape_of(prompt))

    def _negative(self, prompt: str) -> ModelInputs:
        return self._inputs(prompt if self._own_negatives else self.negative, "negative", self.shape_of(prompt))

    def _prepare_inputs(self, prompt: str, kind: str, shape: tuple[int, ...]) -> ModelInputs:
        return self._inputs_of(*conditioning_of(self.encoded, prompt, kind), kind, shape)

    def _inputs_of(
        self, conditioning: Conditioning, latent: Tensor | None, kind: str, shape: tuple[int, ...]
    ) -> ModelInputs:
        noise = torch.zeros(1, *shape, device=self.device)
        with torch.inference_mode(False), torch.no_grad():
            conditioning = with_guidance(conditioning, self.guidance)
            return model_inputs(self._model, conditioning, noise, self.device, kind, latent)

    def _check_first_item(self) -> None:
        """All others are like it, as item_checks.check_alike() found when they were made."""
        name = self.encoded.prompts[0]
        shape = self.shape_of(name)
        noise = torch.zeros(1, *shape)
        item = self.encoded.of_item(name)
        assert item is not None
        if (frames := item.latent_shape[2:-2]) and frames != shape[1:-2]:
            raise ValueError(f"latent is {list(item.latent_shape)}, and {[1, *shape]} is trained: set frames to fit.")
        kinds = {"positive": name, "negative": name if self._own_negatives else self.negative}
        for kind in ("positive", "negative") if self.cfg != 1 else ("positive",):
            made, latent = conditioning_of(self.encoded, kinds[kind], kind)
            prepare = functools.partial(self._inputs_of, latent=latent, kind=kind, shape=shape)
            item_checks.check_with_model(self._model, made, kind, noise, prepare)


def conditioning_of(encoded: Encoded | StoredEncodings, prompt: str, kind: str) -> tuple[Conditioning, Tensor | None]:
    """(a prompt's or item's conditioning, the latent that belongs to it, None where it is empty).

    kind: "positive" or "negative".
    """
    item = encoded.of_item(prompt) if encoded.of_items else None
    if item is None:
        return encoded[prompt], None
    return item.negative if kind == "negative" and item.negative is not None else item.positive, item.latent


def has_own_negatives(encoded: Encoded | StoredEncodings) -> bool:
    """Whether the items' nodes made a negative for each."""
    item = encoded.of_item(encoded.prompts[0]) if encoded.of_items else None
    return item is not None and item.negative is not None


def latent_shape(latent_format: LatentFormat, vae: Vae, width: int, height: int, length: int = 1) -> tuple[int, ...]:
    """(channels, height, width) of one image's latents, with a time axis of `length` where the format has one.

    Raises ValueError when the VAE belongs to another model, or the size isn't a multiple of its compression.
    """
    channels, dimensions = latent_format.latent_channels, latent_format.latent_dimensions
    if dimensions not in (2, 3):
        raise ValueError("This MODEL doesn't make images: its latents have no height and width.")
    if vae.latent_channels != channels:
        raise ValueError(
            f"The VAE has {vae.latent_channels} latent channels and the MODEL {channels}: "
            "use the VAE that belongs to the MODEL."
        )
    ratio = vae.spacial_compression_decode()
    for name, size in (("width", width), ("height", height)):
        if size < ratio or size % ratio:
            raise ValueError(f"{name} is {size}: it must be a multiple of {ratio} for this model.")
    return (channels, *(length,) * (dimensions - 2), height // ratio, width // ratio)


def seeded_noise(shape: Sequence[int], seeds: Sequence[int]) -> Tensor:
    """(len(seeds), *shape) standard normal on the CPU; row i depends on seeds[i] alone."""
    return torch.stack([torch.randn(*shape, generator=torch.Generator().manual_seed(int(seed))) for seed in seeds])
