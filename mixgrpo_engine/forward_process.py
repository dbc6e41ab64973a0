"""DiffusionNFT (arXiv 2509.16117): learns from finished images that are noised again; no step is random.

An old policy samples by any ODE solver. Each image has a probability r of being good, and the policy v is trained by
flow matching through two implicit ones, a positive and a negative: v+ = v_old + beta (v - v_old) shall fit the good
images, v- = v_old - beta (v - v_old) the bad ones. No log-probability, no ratio and no clipping of one is needed. With
enough images the best v is v_old + (2 / beta) E[r (v_image - v_old)]: the smaller beta, the stronger the step.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from .rollout import Trajectory, Velocity, sample_ode
from .solvers import DPMSolverPP
from .transitions import draw

LEAST_ERROR = 1e-5  # of a predicted image, by which its squared error is divided


def optimality(advantages: Tensor, clip: float) -> Tensor:
    """r = 1/2 + 1/2 clip(A / clip, -1, 1), the probability that an image is a good one: (batch,) in 0..1."""
    return 0.5 + 0.5 * (advantages / clip).clamp(-1, 1)


def nft_loss(
    velocity: Tensor,
    old_velocity: Tensor,
    noised: Tensor,
    images: Tensor,
    sigma: float,
    advantages: Tensor,
    clip: float,
    beta: float,
) -> Tensor:
    """Mean of (r |x+ - x0|^2 / w+ + (1 - r) |x- - x0|^2 / w-) * clip / beta: a scalar.

    velocity, old_velocity, noised: (batch, ...), at x = (1 - sigma) x0 + sigma noise; images: x0, the same shape;
    advantages: (batch,). x+ = x - sigma v+ is the image that the positive policy predicts, and w+ its mean absolute
    error, held constant, so that all noise levels count alike (the paper's adaptive weighting); x- and w- likewise.
    The factor clip / beta keeps the first gradient the same whatever these two are: that of regression onto the images,
    weighted by their advantages. The gradient flows through velocity only.
    """
    old = old_velocity.detach().float()
    change = beta * (velocity.float() - old)
    good = optimality(advantages, clip)
    positive, negative = (_weighted_error(noised - sigma * (old + part), images) for part in (change, -change))
    return ((good * positive + (1 - good) * negative) * (clip / beta)).mean()


@torch.no_grad()
def forward_rollout(
    velocity: Velocity,
    noise: Tensor,
    sigmas: Tensor,
    window: range,
    places: Collection[int],
    *,
    generators: Sequence[torch.Generator],
    solver: DPMSolverPP | None = None,
) -> Trajectory:
    """Samples an image from each noise by an ODE, and noises it to the levels before the window's steps.

    velocity(latents, sigma) -> same shape, of the old policy. noise: (batch, ...). sigmas: (steps + 1,), falling to 0.
    places: which of the window's steps are trained, counted from its first; the others stay empty. generators: of the
    new noises, one an image. solver: of all steps, Euler when None. The trajectory holds the noised images as states
    and the old policy's velocities at them.
    """
    latents = sample_ode(velocity, noise, sigmas, solver)
    states = latents.new_zeros(len(window), *latents.shape)
    velocities = torch.zeros_like(states)
    for place in sorted(places):
        sigma = float(sigmas[window[place]])
        states[place] = draw((1 - sigma) * latents, sigma, generators)
        velocities[place] = velocity(states[place], sigma)
    forwards = len(latents) * (len(sigmas) - 1 + len(places))
    return Trajectory(latents, window, states, None, forwards, sigmas.cpu(), velocities=velocities)


def _weighted_error(predicted: Tensor, images: Tensor) -> Tensor:
    """Mean squared error over the mean absolute one, which is held constant: (batch,)."""
    error = (predicted - images).flatten(1)
    return error.square().mean(1) / error.detach().abs().mean(1).clamp(min=LEAST_ERROR)
