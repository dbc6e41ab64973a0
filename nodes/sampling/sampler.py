"""MixGRPO_Sampler: the engine's rollout as a sampler of ComfyUI, and a training's own images by it."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ...mixgrpo_engine import seeds
from ...mixgrpo_engine.config import RolloutConfig, RunConfig, TrainConfig
from ...mixgrpo_engine.prompts import PromptSet
from ...mixgrpo_engine.rollout import Velocity, rollout, sample_ode
from ...mixgrpo_engine.solvers import DPMSolverPP
from ..algorithm import ALGORITHM
from ..category import SAMPLING
from ..comfy_types import Denoiser, Sampler
from ..model.families import check_flow_matching
from ..model.policy import seeded_noise
from ..model.schedule import window_sigmas
from ..prompts import PROMPTS
from ..setting_widgets import setting, widget


def rollout_widget(field: str, **options: str) -> io.Input:
    return widget(setting("rollout", field), advanced=False, **options)


class MixGRPOSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_Sampler",
            display_name="MixGRPO Sampler",
            category=SAMPLING,
            description="The steps of a MixGRPO training: Euler steps, but random ones inside a window. For "
            "SamplerCustomAdvanced with a flow-matching model. An image depends on the seed alone, not on the batch. "
            "With an algorithm connected it makes the very images that a training has learned from.",
            inputs=[
                io.Int.Input(
                    "window_start", default=0, min=0, max=9999,
                    tooltip="Index of the first random step, from 0. Early steps decide what is in the image, late "
                    "ones its texture.",
                ),
                io.Int.Input(
                    "window_size", default=4, min=0, max=9999,
                    tooltip="Number of random steps; the last step of the schedule can't be one. 0 turns the window "
                    "off: plain Euler, as KSampler has it.",
                ),
                rollout_widget("transition"),
                rollout_widget(
                    "eta",
                    tooltip="Strength of the noise inside the window. More makes images of one prompt more different; "
                    "too much spoils them. cps takes values below 2.",
                ),
                rollout_widget(
                    "tail_order",
                    tooltip="Order of the DPM-Solver++ for the steps after the window: 1 is Euler; 2 goes with a "
                    "flash_ratio below 1 in MixGRPO Sigmas. A step costs the same at every order.",
                ),
                rollout_widget("tail_variant"),
                ALGORITHM.Input(
                    "algorithm", optional=True,
                    tooltip="Of a training, to make its own images: it takes the place of all settings above, and "
                    "run_seed, iteration and image of the graph's noise. Those three are unused without it.",
                ),
                io.Int.Input(
                    "run_seed", default=0, min=0, max=2**53 - 1, optional=True, control_after_generate=False,
                    tooltip="The training's seed.",
                ),
                io.Int.Input(
                    "iteration", default=1, min=1, max=1_000_000, optional=True,
                    tooltip="The training's iteration, from 1. The model must be what it was then: the untrained one "
                    "in iteration 1.",
                ),
                io.Int.Input(
                    "image", default=0, min=0, max=65535, optional=True,
                    tooltip="Number of the image in its iteration, from 0, groups side by side: with group_size 12 the "
                    "second prompt's first is 12. The images of a batch go on from it.",
                ),
                PROMPTS.Input("prompts", optional=True, tooltip="The training's, for the output prompt."),
            ],
            outputs=[
                io.Sampler.Output(display_name="sampler", tooltip="For SamplerCustomAdvanced."),
                io.String.Output(
                    display_name="prompt",
                    tooltip="With algorithm and prompts: the prompt of that image, for CLIP Text Encode. Else empty.",
                ),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, window_start: int, window_size: int, transition: str, eta: float, tail_order: int, tail_variant: str,
        algorithm: TrainConfig | None = None, run_seed: int = 0, iteration: int = 1, image: int = 0,
        prompts: PromptSet | None = None,
    ) -> io.NodeOutput:  # fmt: skip
        if algorithm is not None:
            config = dataclasses.replace(algorithm, run=RunConfig(seed=run_seed))
            return io.NodeOutput(*training_sampler(config, iteration - 1, image, prompts))
        # The settings' own checks, with their sentences; whether the window fits is known when it meets its sigmas.
        TrainConfig(
            RolloutConfig(transition=transition, eta=eta, tail_order=tail_order, tail_variant=tail_variant)
        ).validate()
        window = range(window_start, window_start + window_size)
        return io.NodeOutput(
            rollout_sampler(window, transition=transition, eta=eta, tail_order=tail_order, tail_variant=tail_variant),
            "",
        )


def rollout_sampler(
    window: range,
    *,
    transition: str = "flow_sde",
    eta: float = 0.7,
    tail_order: int = 1,
    tail_variant: str = "midpoint",
    shared_noise: bool = False,
    batch_size: int = 0,
    generators: Callable[[int], list[torch.Generator]] | None = None,
    surrogate: str = "clip",
) -> Sampler:
    """A SAMPLER (comfy.samplers.KSAMPLER) that runs `sample_rollout` with these settings."""
    import comfy.samplers

    options = {
        "window": window, "transition": transition, "eta": eta, "tail_order": tail_order,
        "tail_variant": tail_variant, "shared_noise": shared_noise, "batch_size": batch_size, "generators": generators,
        "surrogate": surrogate,
    }  # fmt: skip
    return comfy.samplers.KSAMPLER(sample_rollout, options)


def training_sampler(
    config: TrainConfig, iteration: int, image: int, prompts: PromptSet | None = None
) -> tuple[Sampler, str]:
    """(a SAMPLER of a training's own images from number `image` on, the prompt of that one, "" without prompts).

    config: the algorithm, and the run's seed. iteration: from 0. Raises ValueError when it has no such image.
    """
    import comfy.samplers

    size, count = config.rollout.group_size, config.rollout.prompts_per_iteration
    if image >= size * count:
        raise ValueError(f"image is {image}: an iteration of this algorithm has the images 0 to {size * count - 1}.")
    prompt = prompts.text(prompts.at(iteration, count, config.run.seed)[image // size]) if prompts else ""
    options = {"config": config, "iteration": iteration, "image": image}
    return comfy.samplers.KSAMPLER(sample_training_images, options), prompt


def sample_rollout(
    model: Denoiser, x: Tensor, sigmas: Tensor, extra_args: dict[str, Any] | None = None,
    callback: Callable[[dict[str, Any]], None] | None = None, disable: bool | None = None, *,
    window: range, transition: str, eta: float, tail_order: int, tail_variant: str, shared_noise: bool, batch_size: int,
    generators: Callable[[int], list[torch.Generator]] | None, surrogate: str,
) -> Tensor:  # fmt: skip
    """MixGRPO's sampling (arXiv 2507.21802, algorithm 1) in the form of k-diffusion's samplers.

    x: (batch, ...), the noisy latents at sigmas[0]. An empty window gives plain Euler sampling. shared_noise: all
    rows of x are alike, so that the steps before the window run for the first row only. batch_size: rows a model
    call, 0 takes them all. generators(rows): of the noise inside the window, row_generators() when None. surrogate:
    "nft" takes no random step, and the tail's solver from the first one on.
    Raises ValueError for a model that isn't flow matching, or a window that doesn't fit.
    """
    check_flow_matching(model.inner_model.model_patcher)
    extra_args = extra_args or {}
    levels = sigmas.cpu()  # one transfer, instead of one for every step
    velocity = _velocity(model, extra_args, callback, batch_size)
    if not len(window):
        return sample_ode(velocity, x, levels)
    tail = DPMSolverPP(tail_order, tail_variant) if tail_order > 1 else None
    if surrogate == "nft":
        return sample_ode(velocity, x, levels, tail)
    if generators is None:
        noise = getattr(model, "noise", None)
        of_rows = row_generators(x if noise is None else noise, extra_args.get("seed") or 0)
    else:
        of_rows = generators(len(x))
    trajectory = rollout(
        velocity,
        x[:1] if shared_noise else x,
        levels,
        window,
        transition=transition,
        eta=eta,
        group_size=len(x) if shared_noise else 1,
        tail=tail,
        generator=of_rows,
        shared_noise=shared_noise,
    )
    return trajectory.latents


def sample_training_images(
    model: Denoiser, x: Tensor, sigmas: Tensor, extra_args: dict[str, Any] | None = None,
    callback: Callable[[dict[str, Any]], None] | None = None, disable: bool | None = None, *,
    config: TrainConfig, iteration: int, image: int,
) -> Tensor:  # fmt: skip
    """The images `image`, `image` + 1, ... that a training with this config samples in its iteration (from 0).

    Noises, window and steps are the training's (Sampler.rollout of the engine); only the number of rows a model call
    may round otherwise. Raises ValueError for a graph that asks for something else than the training.
    """
    options, images = config.rollout, range(image, image + len(x))
    window, model_patcher = config.sliding_window().at(iteration), model.inner_model.model_patcher
    if images[0] // options.group_size != images[-1] // options.group_size:
        raise ValueError(
            f"The images {images[0]} to {images[-1]} belong to several prompts, because group_size is "
            f"{options.group_size}: make the batch of latents smaller."
        )
    cfg = getattr(model.inner_model, "cfg", options.cfg)
    if cfg != options.cfg:
        raise ValueError(f"cfg is {cfg:g} in the guider and {options.cfg:g} in the algorithm: set it to the latter.")
    own = window_sigmas(
        model_patcher.get_model_object("model_sampling"), options.steps, options.shift, window, options.flash_ratio,
        options.spacing,
    )  # fmt: skip
    if own.shape != sigmas.shape or not torch.allclose(own, sigmas.cpu().float(), atol=1e-6):
        raise ValueError(
            f"The sigmas aren't this training's in iteration {iteration + 1}: connect MixGRPO Sigmas with "
            f"steps {options.steps}, shift {options.shift:g}, flash_ratio {options.flash_ratio:g}, "
            f"window_start {window.start}, window_size {len(window)} and spacing {options.spacing}."
        )
    if extra_args and extra_args.get("denoise_mask") is not None:
        raise ValueError("The latents have a noise mask, which a training hasn't: remove it.")
    starts = [image // options.group_size] if options.shared_noise else images
    noise = seeded_noise(x.shape[1:], seeds.start_seeds(config.run.seed, iteration, starts)).to(x)
    return sample_rollout(
        model, noise.expand(len(x), *noise.shape[1:]), sigmas, extra_args, callback, disable,
        window=window, transition=options.transition, eta=options.eta, tail_order=options.tail_order,
        tail_variant=options.tail_variant, shared_noise=options.shared_noise, batch_size=options.batch_size,
        generators=lambda _: seeds.window_generators(config.run.seed, iteration, images),
        surrogate=config.loss.surrogate,
    )  # fmt: skip


def row_generators(noise: Tensor, seed: int) -> list[torch.Generator]:
    """A generator for each image, of the noise inside the window; noise: (batch, ...), what the images start from.

    An image is known by its initial noise and not by its place: ComfyUI gives the third image of a batch the same
    noise when it is sampled alone (batch_index), and so it gets the same window noise, too. Among images that share
    their initial noise the place counts, or they would all be the same.
    """
    seen: Counter[str] = Counter()
    generators = []
    for row in noise.detach().float().cpu():
        start = hashlib.sha256(row.contiguous().numpy().tobytes()).hexdigest()
        generators.append(seeds.generator(seed, "window", start, seen[start]))
        seen[start] += 1
    return generators


def _velocity(
    model: Denoiser, extra_args: dict[str, Any], callback: Callable[[dict[str, Any]], None] | None, batch_size: int
) -> Velocity:
    """The velocity (x - denoised) / sigma; the engine asks for it once a step, so each call is a step done."""
    steps = itertools.count()

    def velocity(latents: Tensor, sigma: float) -> Tensor:
        parts = latents.split(batch_size or len(latents))
        denoised = torch.cat([model(part, part.new_full((len(part),), sigma), **extra_args) for part in parts])
        if callback is not None:
            callback({"x": latents, "i": next(steps), "sigma": sigma, "sigma_hat": sigma, "denoised": denoised})
        return (latents - denoised) / sigma

    return velocity


NODES = [MixGRPOSampler]
