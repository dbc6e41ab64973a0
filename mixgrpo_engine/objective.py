"""The surrogate objectives of the update, and the KL to the base model. All of them descend."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

SURROGATES = ("clip", "ratio_norm", "kl_mask", "nft")  # nft: forward_process.py
STEP_WEIGHTS = ("uniform", "noise")
KL_SPACES = ("velocity", "mean", "flow_grpo")


def policy_loss(log_prob: Tensor, old_log_prob: Tensor, advantages: Tensor, clip_range: float) -> Tensor:
    """Mean of -min(r*A, clip(r, 1 +- clip_range)*A), r = exp(log_prob - old_log_prob): a scalar.

    log_prob, old_log_prob: (batch,) or (steps, batch); advantages: (batch,). The gradient flows through log_prob.
    """
    return _clipped(torch.exp(log_prob - old_log_prob), advantages, clip_range)


def ratio_norm(log_prob: Tensor, old_log_prob: Tensor, mean_shift: Tensor, std: float) -> Tensor:
    """GRPO-Guard's ratio (arXiv 2510.22319): exp(s * (log_prob - old_log_prob + mean(dmu^2) / (2 s^2))), (batch,).

    mean_shift: mean(dmu^2) over latent dimensions, dmu = mean - old mean, (batch,); std: s of the step. The plain
    log-ratio is mean(eps * dmu) / s - mean(dmu^2) / (2 s^2): its second part is negative whichever way the mean
    moves, which is the bias that this takes out. What is left, mean(eps * dmu), has the same scale at every step.
    """
    return torch.exp(std * (log_prob - old_log_prob + mean_shift / (2 * std**2)))


def ratio_norm_loss(
    log_prob: Tensor,
    old_log_prob: Tensor,
    mean_shift: Tensor,
    std: float,
    step_size: float,
    advantages: Tensor,
    clip_range: float,
) -> Tensor:
    """The clipped surrogate of `ratio_norm`, divided by the step's sigma - sigma_next (GRPO-Guard): a scalar."""
    ratio = ratio_norm(log_prob, old_log_prob, mean_shift, std)
    return _clipped(ratio, advantages, clip_range) / step_size


def kl_mask_loss(
    log_prob: Tensor, old_log_prob: Tensor, mean_shift: Tensor, std: float, advantages: Tensor, threshold: float
) -> Tensor:
    """Flow-DPPO's masked surrogate (arXiv 2606.11025): mean of -r*A without a clip, a scalar.

    An image leaves the mean's sum once its step's KL to the rollout's policy, mean(dmu^2) / (2 s^2), has reached the
    threshold and it still moves on: A > 0 and r > 1, or A < 0 and r < 1. Shapes as in `ratio_norm_loss`.
    """
    ratio = torch.exp(log_prob - old_log_prob)
    moves_on = ((advantages > 0) & (ratio > 1)) | ((advantages < 0) & (ratio < 1))
    too_far = mean_shift / (2 * std**2) >= threshold
    return -torch.where(too_far & moves_on, 0.0, ratio * advantages).mean()


def noise_weights(stds: Sequence[float]) -> list[float]:
    """TempFlow-GRPO's weights of the steps' losses (arXiv 2508.04324): each step's std over their mean.

    The more noise a step adds, the more of the image is decided in it.
    """
    mean = sum(stds) / len(stds)
    return [std / mean for std in stds]


def velocity_kl(velocity: Tensor, base_velocity: Tensor) -> Tensor:
    """KL to the base model in velocity space: mean of (v - v_base)^2 over latent dimensions, (batch,).

    For two Gaussians of the same std, the KL of a window step is this times a factor of the noise level only
    (Flow-GRPO, arXiv 2505.05470, section 4); without the factor all steps count alike. The gradient flows through
    velocity, never through base_velocity.
    """
    return mean_squared_shift(velocity, base_velocity)


def mean_kl(mean: Tensor, base_mean: Tensor, std: float) -> Tensor:
    """KL(N(mean, s^2 I) || N(base_mean, s^2 I)) per latent dimension: mean of (mu - mu_base)^2 / (2 s^2), (batch,).

    The gradient flows through mean, never through base_mean.
    """
    return mean_squared_shift(mean, base_mean) / (2 * std**2)


def flow_grpo_kl(mean: Tensor, base_mean: Tensor, std: float, step_size: float) -> Tensor:
    """The KL as Flow-GRPO's authors weigh it, (batch,): `mean_kl` times the step's sigma - sigma_next.

    Their code divides by the diffusion coefficient g where the step's std is g * sqrt(step_size). At 10 even
    steps of shift 3 the exact KL is 5.6 to 28 times as large: their weights (0.04, PickScore 0.01) belong to this form.
    """
    return step_size * mean_kl(mean, base_mean, std)


def mean_squared_shift(now: Tensor, then: Tensor) -> Tensor:
    """Mean of (now - then)^2 over latent dimensions: (batch, ...) to (batch,). The gradient flows through now."""
    return (now.float() - then.detach().float()).square().flatten(1).mean(1)


def _clipped(ratio: Tensor, advantages: Tensor, clip_range: float) -> Tensor:
    clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
    return -torch.minimum(ratio * advantages, clipped * advantages).mean()
