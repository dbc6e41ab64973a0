"""One model call of a training, to be timed or counted."""

from __future__ import annotations

from collections.abc import Callable

import torch

SIGMA = 0.5  # any noise level: all cost the same


def model_call(policy, images: int, gradient: bool, prompt: str = "") -> Callable[[], None]:
    """A function that calls the policy's module with so many images of a prompt; with gradient, backward too."""
    latents, condition = policy.noise(range(images)), policy.condition([prompt] * images)
    if hasattr(condition, "plan"):  # ComfyUI's inputs are batched at the first use, which isn't the call's own cost
        condition.plan()

    def call() -> None:
        with torch.set_grad_enabled(gradient):
            velocity = policy.module(latents, SIGMA, condition)
            if gradient:
                velocity.square().mean().backward()

    return call
