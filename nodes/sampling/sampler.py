"""MixGRPO_Sampler: the engine's rollout as a sampler of ComfyUI, the same step code in stock graphs as in training."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ...mixgrpo_engine import seeds
from ...mixgrpo_engine.config import RolloutConfig, TrainConfig
from ...mixgrpo_engine.rollout import Velocity, rollout, sample_ode
from ...mixgrpo_engine.solvers import DPMSolverPP
from ..category import SAMPLING
from ..comfy_types import Denoiser, Sampler
from ..model.families import check_flow_matching
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
            description="Samples as a MixGRPO training does: Euler steps, but random ones inside a window. For "
            "SamplerCustomAdvanced with a flow-matching model. An image depends on the seed alone, not on the batch.",
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
            ],
            outputs=[io.Sampler.Output(display_name="sampler", tooltip="For SamplerCustomAdvanced.")],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, window_start: int, window_size: int, transition: str, eta: float, tail_order: int, tail_variant: str
    ) -> io.NodeOutput:
        # The settings' own checks, with their sentences; whether the window fits is known when it meets its sigmas.
        TrainConfig(
            RolloutConfig(transition=transition, eta=eta, tail_order=tail_order, tail_variant=tail_variant)
        ).validate()
        window = range(window_start, window_start + window_size)
        return io.NodeOutput(
            rollout_sampler(window, transition=transition, eta=eta, tail_order=tail_order, tail_variant=tail_variant)
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
) -> Sampler:
    """A SAMPLER (comfy.samplers.KSAMPLER) that runs `sample_rollout` with these settings."""
    import comfy.samplers

    options = {
        "window": window, "transition": transition, "eta": eta, "tail_order": tail_order,
        "tail_variant": tail_variant, "shared_noise": shared_noise, "batch_size": batch_size,
    }  # fmt: skip
    return comfy.samplers.KSAMPLER(sample_rollout, options)


def sample_rollout(
    model: Denoiser, x: Tensor, sigmas: Tensor, extra_args: dict[str, Any] | None = None,
    callback: Callable[[dict[str, Any]], None] | None = None, disable: bool | None = None, *,
    window: range, transition: str, eta: float, tail_order: int, tail_variant: str, shared_noise: bool, batch_size: int,
) -> Tensor:  # fmt: skip
    """MixGRPO's sampling (arXiv 2507.21802, algorithm 1) in the form of k-diffusion's samplers.

    x: (batch, ...), the noisy latents at sigmas[0]. An empty window gives plain Euler sampling. shared_noise: all
    rows of x are alike, so that the steps before the window run for the first row only. batch_size: rows a model
    call, 0 takes them all. Raises ValueError for a model that isn't flow matching, or a window that doesn't fit.
    """
    check_flow_matching(model.inner_model.model_patcher)
    extra_args = extra_args or {}
    levels = sigmas.cpu()  # one transfer, instead of one for every step
    velocity = _velocity(model, extra_args, callback, batch_size)
    if not len(window):
        return sample_ode(velocity, x, levels)
    noise = getattr(model, "noise", None)
    trajectory = rollout(
        velocity,
        x[:1] if shared_noise else x,
        levels,
        window,
        transition=transition,
        eta=eta,
        group_size=len(x) if shared_noise else 1,
        tail=DPMSolverPP(tail_order, tail_variant) if tail_order > 1 else None,
        generator=row_generators(x if noise is None else noise, extra_args.get("seed") or 0),
        shared_noise=shared_noise,
    )
    return trajectory.latents


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
