"""One denoising step from sigma to sigma_next. All of it in float32: the drift loses its meaning in bf16.

latents, velocity: (batch, ...). sigma, sigma_next: floats, 1 >= sigma > sigma_next >= 0. Stochastic transitions
return the mean (batch, ...) and the standard deviation (a float) of the Gaussian that the next latents come from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .transfers import send

Transition = Callable[[Tensor, Tensor, float, float, float], tuple[Tensor, float]]


def euler(latents: Tensor, velocity: Tensor, sigma: float, sigma_next: float) -> Tensor:
    """One Euler step of the probability-flow ODE: x' = x - v * (sigma - sigma_next)."""
    return latents.float() - velocity.float() * (sigma - sigma_next)


def flow_sde(latents: Tensor, velocity: Tensor, sigma: float, sigma_next: float, eta: float) -> tuple[Tensor, float]:
    """Euler-Maruyama step of Flow-GRPO's SDE, g = eta * sqrt(sigma / (1 - sigma)) (arXiv 2505.05470, 2507.21802).

    At sigma = 1, where g is singular, its denominator takes sigma_next.
    """
    sigma, sigma_next = float(sigma), float(sigma_next)
    x, v = latents.float(), velocity.float()
    delta = sigma - sigma_next
    g2 = eta**2 * sigma / (1 - (sigma if sigma < 1 else sigma_next))
    mean = x * (1 - g2 * delta / (2 * sigma)) - v * ((1 + g2 * (1 - sigma) / (2 * sigma)) * delta)
    return mean, math.sqrt(g2 * delta)


def dance_sde(latents: Tensor, velocity: Tensor, sigma: float, sigma_next: float, eta: float) -> tuple[Tensor, float]:
    """DanceGRPO's SDE step with constant diffusion eta (arXiv 2505.07818)."""
    sigma, sigma_next = float(sigma), float(sigma_next)
    x, v = latents.float(), velocity.float()
    delta = sigma - sigma_next
    denoised = x - sigma * v
    score_drift = (x - (1 - sigma) * denoised) / sigma**2
    return x - v * delta - 0.5 * eta**2 * delta * score_drift, eta * math.sqrt(delta)


def cps(latents: Tensor, velocity: Tensor, sigma: float, sigma_next: float, eta: float) -> tuple[Tensor, float]:
    """Coefficients-preserving sampling (arXiv 2509.05952): the total noise level stays exactly sigma_next.

    eta = 0 is Euler, eta = 1 replaces all of the predicted noise. No singularity at sigma = 1.
    """
    sigma, sigma_next = float(sigma), float(sigma_next)
    x, v = latents.float(), velocity.float()
    denoised = x - sigma * v
    noise = x + (1 - sigma) * v
    angle = eta * math.pi / 2
    mean = (1 - sigma_next) * denoised + (sigma_next * math.cos(angle)) * noise
    return mean, sigma_next * math.sin(angle)


TRANSITIONS: dict[str, Transition] = {"flow_sde": flow_sde, "dance_sde": dance_sde, "cps": cps}


def log_prob(sample: Tensor, mean: Tensor, std: float) -> Tensor:
    """log N(sample; mean, std^2 I), averaged over the latent dimensions: (batch,).

    The mean instead of the sum keeps its scale the same at every image size; clip_range is set for it.
    """
    std = float(std)
    if not std > 0:
        raise ValueError("log_prob needs a positive std: a deterministic step has no density.")
    squared = (sample.float() - mean.float()).square().flatten(1).mean(1)
    return -squared / (2 * std**2) - math.log(std) - 0.5 * math.log(2 * math.pi)


def draw(mean: Tensor, std: float, generator: torch.Generator | Sequence[torch.Generator] | None) -> Tensor:
    """mean + std * noise; the noise is drawn on the generator's device, so that a CPU seed serves every device.

    A sequence holds one generator a row: a row's noise then doesn't depend on the batch that it is in.
    """
    if isinstance(generator, Sequence):
        noise = torch.stack([_normal(mean[row], own) for row, own in enumerate(generator)])
    else:
        noise = _normal(mean, generator)
    return mean + std * send(noise, mean.device)


def _normal(like: Tensor, generator: torch.Generator | None) -> Tensor:
    device = generator.device if generator is not None else like.device
    return torch.randn(like.shape, generator=generator, device=device, dtype=torch.float32)
