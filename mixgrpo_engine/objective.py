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
