"""The trainable part of a policy: a BaseModel whose forward is the velocity."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ...mixgrpo_engine.gradient_scale import GradientScale
from ..comfy_types import BaseModel
from .condition import Call, PromptCondition
from .families import velocity_of_output


class VelocityModule(nn.Module):
    """`module(latents, sigma, condition) -> velocity`, float32, shape as latents; one path for rollout and update."""

    def __init__(
        self, model: BaseModel, model_options: dict, cfg: float, gradient_scale: GradientScale | None = None
    ) -> None:
        """model: a private BaseModel. model_options: of a MODEL that model_options.settled() has looked through.

        gradient_scale: where it computes in float16.
        """
        super().__init__()
        self.model: BaseModel = model
        self.cfg = cfg
        self.gradient_scale = gradient_scale
        self.options: dict[str, Any] = model_options.get("transformer_options", {})
        self.cfg_function = model_options.get("sampler_cfg_function")
        model.model_sampling.calculate_denoised = velocity_of_output(model.model_sampling)

    def forward(self, latents: Tensor, sigma: float | Tensor, condition: PromptCondition) -> Tensor:
        """latents: (batch, ...) float32; sigma: in (0, 1], or (batch,), one a latent; condition: one row a latent."""
        if len(condition) != len(latents):
            raise ValueError(f"{len(latents)} latents came with {len(condition)} prompts: one prompt a latent.")
        calls, order = condition.plan()
        # Always a new tensor: some models write into their input.
        stacked = torch.cat([latents, latents]) if condition.guided else latents.clone()
        timestep = sigma if isinstance(sigma, Tensor) else latents.new_full((len(latents),), sigma)
        timestep = torch.cat([timestep, timestep]) if condition.guided else timestep
        outputs = [self._call(call, stacked, timestep) for call in calls]
        velocity = outputs[0] if order is None else torch.cat(outputs)[order]
        if condition.guided:
            velocity = self._guide(velocity, latents, timestep)
        return velocity if self.gradient_scale is None else self.gradient_scale.applied(velocity)

    def _call(self, call: Call, latents: Tensor, timestep: Tensor) -> Tensor:
        if call.rows is not None:
            latents, timestep = latents[call.rows], timestep[call.rows]
        inputs = {name: _copy(value) for name, value in call.inputs.items()}
        # A new dict a call: models write their progress into it.
        inputs["transformer_options"] = {
            **self.options,
            "cond_or_uncond": list(call.cond_or_uncond),
            "uuids": call.uuids,
            "sigmas": timestep[: len(timestep) // len(call.cond_or_uncond)],
        }
        return self.model.apply_model(latents, timestep, **inputs)

    def _guide(self, velocity: Tensor, latents: Tensor, timestep: Tensor) -> Tensor:
        """v_uncond + cfg * (v_cond - v_uncond), or what the MODEL's own cfg function makes of the two."""
        conditional, unconditional = velocity.chunk(2)
        if self.cfg_function is None:
            return unconditional + self.cfg * (conditional - unconditional)
        # It works on x - denoised, which is sigma * velocity.
        timestep = timestep[: len(latents)]
        sigma = timestep.view(-1, *[1] * (latents.ndim - 1))
        arguments = {
            "cond": sigma * conditional,
            "uncond": sigma * unconditional,
            "cond_denoised": latents - sigma * conditional,
            "uncond_denoised": latents - sigma * unconditional,
            "cond_scale": self.cfg,
            "timestep": timestep,
            "sigma": timestep,
            "input": latents,
            "model": self.model,
            "model_options": {"transformer_options": self.options},
        }
        return self.cfg_function(arguments) / sigma


def _copy(value: Any) -> Any:
    """Prompts are shared by all calls, and some models write into their context."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, list):
        return [_copy(item) for item in value]
    return value
