"""Before a model is moved to its device: what the training will need there, counted on a copy without data.

The copy is on the device "meta": its layers, LoRA and checkpointing are the real ones, its tensors have only shapes.
So a model call with its backward pass can be followed tensor by tensor, at the real size, in a moment.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from ...mixgrpo_engine import block_swap, lora
from ...mixgrpo_engine.config import TrainConfig
from ...mixgrpo_engine.memory import estimate
from ...mixgrpo_engine.memory.estimate import Line, Needs
from ...mixgrpo_engine.memory.live_bytes import Known, attention_without_matrix, peak_bytes
from ...mixgrpo_engine.rewards import Reward
from ..comfy_types import Model, Vae
from . import gradients, lora_names
from .condition import ModelInputs, PromptCondition, model_inputs
from .conditioning import Encoded
from .decoding import bytes_to_move, decode_bytes, free_bytes, tile_shape
from .encodings import StoredEncodings
from .families import check_trainable, with_guidance
from .frozen_copy import weightless_copy
from .input_cache import CACHED_BYTES, bytes_of
from .model_options import settled
from .module import VelocityModule
from .policy import conditioning_of, has_own_negatives, latent_shape
from .precision import use_training_dtype
from .video import latent_frames

META = torch.device("meta")
SIGMA = 0.5  # any noise level: they all need the same
PROMPTS_LOOKED_AT = 16  # for the longest one; a run may have ten thousand

Rows = tuple[ModelInputs, ModelInputs | None]  # of a prompt, and of the negative one if there is guidance

# The largest number of tokens decides, so sizes are tried in these shares of the wanted width and height.
SMALLER = (0.75, 0.5)


class Preflight:
    """Estimates for one MODEL, VAE and set of prompts; settings may differ from one to the next."""

    def __init__(
        self,
        model: Model,
        vae: Vae,
        encoded: Encoded | StoredEncodings,
        prompts: Iterable[str],
        rewards: Iterable[Reward] = (),
    ) -> None:
        """prompts: all of the run. rewards: the scorers; see scorer_bytes(). Raises ValueError for a wrong MODEL."""
        check_trainable(model, encoded.of_items)
        gradients.enable_training_mode()  # newer ComfyUI's code for sampling takes tensors without data badly
        self.model, _ = settled(model)
        self.vae, self.encoded = vae, encoded
        self.prompts, self.rewards = list(prompts), list(rewards)
        self.device: torch.device = model.load_device
        self._known: Known = {}  # shared by all model calls, which are made of the same operators again and again

    def report(self, config: TrainConfig) -> estimate.Report:
        """Raises whatever the model's code raises on tensors without data."""
        free = free_bytes(self.device)
        fitted, needs = estimate.fitted(self.needs, free, config)
        plan = estimate.plan(needs, free, fitted)
        alternatives = () if plan.fits else tuple(self._alternatives(fitted))
        switched_on = fitted.run.gradient_checkpointing != config.run.gradient_checkpointing
        return estimate.Report(needs, free, plan, fitted, alternatives, switched_on)

    def needs(self, config: TrainConfig) -> Needs:
        run = config.run
        length = latent_frames(self.model, self.vae, run.frames)
        shape = latent_shape(self.model.model.latent_format, self.vae, run.width, run.height, length)
        rows = self._rows(shape, config)
        module = self._module(config)
        parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        return Needs(
            weights=bytes_to_move(self.model.model, self.device),
            adapter=estimate.adapter_bytes(parameters, config),
            update=self._update(module, shape, rows, config) if parameters else Line(),
            rollout=self._rollout(module, shape, rows),
            kept=estimate.trajectory_bytes(torch.Size(shape).numel(), config)
            + min(bytes_of(rows[0]) * len(self.prompts), CACHED_BYTES),
            vae=self._vae(shape),
            scorers=sum(scorer_bytes(reward) for reward in self.rewards),
            # Apple's devices have the host's memory.
            blocks=() if self.device.type == "mps" else block_swap.bytes_of_blocks(module.model.diffusion_model),
        )

    def _module(self, config: TrainConfig) -> VelocityModule:
        """What ComfyPolicy trains, without data."""
        base = weightless_copy(self.model)
        use_training_dtype(base, self.device)
        start = lora_names.start_of(config.adapter, base)
        with META:
            lora.inject(base.diffusion_model, config.adapter, start=start)
        gradients.prepare(base.diffusion_model, config.run.gradient_checkpointing, verify=False)
        options = dict(self.model.model_options)
        counted = {gradients.ATTENTION_OVERRIDE: _pytorch_attention}
        options["transformer_options"] = options["transformer_options"] | counted
        return VelocityModule(base, options, config.rollout.cfg)

    def _rows(self, shape: tuple[int, ...], config: TrainConfig) -> Rows:
        """The model's inputs of the longest prompt among some, and of the negative one if there is guidance."""
        step = max(1, len(self.prompts) // PROMPTS_LOOKED_AT)
        # The item of the largest image has the largest pictures, as a rule.
        sizes = self.encoded.latent_shapes()
        largest = [max(sizes, key=lambda name: math.prod(sizes[name]))] if sizes else []
        some = [*self.prompts[::step], *largest]
        inputs = {prompt: self._inputs(prompt, shape, config, "positive") for prompt in some}
        longest = max(inputs, key=lambda prompt: bytes_of(inputs[prompt]))
        if config.rollout.cfg == 1:
            return inputs[longest], None
        negative = longest if has_own_negatives(self.encoded) else config.run.negative_prompt
        return inputs[longest], self._inputs(negative, shape, config, "negative")

    def _inputs(self, prompt: str, shape: tuple[int, ...], config: TrainConfig, kind: str) -> ModelInputs:
        with torch.inference_mode(False), torch.no_grad():
            conditioning, latent = conditioning_of(self.encoded, prompt, kind)
            conditioning, cpu = with_guidance(conditioning, config.run.guidance), torch.device("cpu")
            return model_inputs(self.model.model, conditioning, torch.zeros(1, *shape), cpu, kind, latent)

    def _update(self, module: VelocityModule, shape: tuple[int, ...], rows: Rows, config: TrainConfig) -> Line:
        def call(images: int) -> None:
            latents, condition = _batch(images, shape, rows)
            velocity, base = module(latents, SIGMA, condition), 0.0
            if config.loss.kl_weight > 0:
                with torch.no_grad(), lora.disabled(module):
                    base = module(latents, SIGMA, condition)
            (velocity - base).square().mean().backward()

        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.empty_like(parameter)  # counted with the adapter
        return estimate.line_through(lambda images: peak_bytes(lambda: call(images), self._known))

    def _rollout(self, module: VelocityModule, shape: tuple[int, ...], rows: Rows) -> Line:
        @torch.no_grad()
        def call(images: int) -> None:
            latents, condition = _batch(images, shape, rows)
            module(latents, SIGMA, condition)

        return estimate.line_through(lambda images: peak_bytes(lambda: call(images), self._known))

    def _vae(self, shape: tuple[int, ...]) -> int:
        """Its weights, and the decoding of one image; in tiles if that needs less."""
        decoding = min(decode_bytes(self.vae, (1, *each)) for each in (shape, tile_shape(shape)))
        return bytes_to_move(self.vae.first_stage_model, self.vae.device) + decoding

    def _alternatives(self, config: TrainConfig) -> Iterator[tuple[str, Needs]]:
        """Settings that need less, the least loss first."""
        changed = dataclasses.replace(config, run=dataclasses.replace(config.run, gradient_checkpointing=True))
        also, swapped = "", config.run.swapped_blocks
        if not config.run.gradient_checkpointing:
            also = "switch on gradient_checkpointing"
            yield also, self.needs(changed).swapping(swapped)
        if not swapped:
            needs = self.needs(changed)
            yield "set swapped_blocks to -1", needs.swapping(len(needs.blocks))
        for share in SMALLER:
            width, height = (_rounded(size * share) for size in (config.run.width, config.run.height))
            smaller = dataclasses.replace(changed, run=dataclasses.replace(changed.run, width=width, height=height))
            yield (
                f"{also} and train at {width} x {height}" if also else f"train at {width} x {height}",
                self.needs(smaller).swapping(swapped),
            )


def plan(preflight: Preflight, config: TrainConfig) -> tuple[TrainConfig, str]:
    """(the settings with batch sizes and swapped blocks that should fit, what to tell people).

    Raises MemoryError with one sentence when a GPU can't hold even one image a model call, unless the settings want it
    tried all the same.
    """
    try:
        report = preflight.report(config)
    except Exception as error:  # whatever a model's code raises without data: it costs the estimate, not the training
        logging.getLogger("mixgrpo").info("No estimate of the memory.", exc_info=True)
        return config, (
            f"The memory of this model can't be estimated ({type(error).__name__}): model calls begin with all images "
            "and are halved when memory runs out."
        )
    if not report.plan.fits and preflight.device.type not in ("cpu", "mps") and not config.run.try_anyway:
        raise MemoryError(f"{report.too_much()} Or switch on try_anyway: this is an estimate.")
    planned = dataclasses.replace(
        report.config,
        rollout=dataclasses.replace(config.rollout, batch_size=report.plan.rollout_batch),
        optimizer=dataclasses.replace(config.optimizer, batch_size=report.plan.update_batch),
    )
    return planned, report.sentence() if report.plan.fits else f"{report.sentence()} {report.too_much()}"


def scorer_bytes(reward: Reward) -> int:
    """Weights that a scorer brings to the device: what its device_bytes() says, 0 for one that doesn't say."""
    told = getattr(reward, "device_bytes", None)
    return int(told()) if callable(told) else 0


def _batch(images: int, shape: tuple[int, ...], rows: Rows) -> tuple[Tensor, PromptCondition]:
    positive, negative = rows
    negatives = None if negative is None else [negative] * images
    return torch.empty(images, *shape, device=META), PromptCondition([positive] * images, negatives, META)


def _pytorch_attention(_function: object, *args: Any, **kwargs: Any) -> Tensor:
    from comfy.ldm.modules import attention

    # Around each call alone: a mode around a backward pass is switched off where blocks are computed again.
    with attention_without_matrix():
        return attention.attention_pytorch(*args, **kwargs)


def _rounded(size: float) -> int:
    """A multiple of 64, which suits every family."""
    return max(64, int(size) // 64 * 64)
