"""The surrogate objective of the update."""

from __future__ import annotations

import torch
from torch import Tensor


def policy_loss(log_prob: Tensor, old_log_prob: Tensor, advantages: Tensor, clip_range: float) -> Tensor:
    """Mean of -min(r*A, clip(r, 1 +- clip_range)*A), r = exp(log_prob - old_log_prob): a scalar.

    log_prob, old_log_prob: (batch,) or (steps, batch); advantages: (batch,). The gradient flows through log_prob.
    """
    ratio = torch.exp(log_prob - old_log_prob)
    clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
    return -torch.minimum(ratio * advantages, clipped * advantages).mean()


def velocity_kl(velocity: Tensor, base_velocity: Tensor) -> Tensor:
    """KL to the base model in velocity space: mean of (v - v_base)^2 over latent dimensions, (batch,).

    For two Gaussians of the same std, the KL of a window step is this times a factor of the noise level only
    (Flow-GRPO, arXiv 2505.05470, section 4); without the factor all steps count alike. The gradient flows through
    velocity, never through base_velocity.
    """
    return (velocity.float() - base_velocity.detach().float()).square().flatten(1).mean(1)
