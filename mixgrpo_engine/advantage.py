"""Group-relative advantages: how much better an image is than the others of its prompt."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

MIXES = ("advantages", "rewards")
SPREADS = ("group", "iteration")

# Below this spread, relative to the rewards' size, a group's differences are rounding and carry no signal.
MIN_RELATIVE_STD = 1e-5


def group_advantages(
    rewards: Mapping[str, Tensor],
    group_size: int,
    weights: Mapping[str, float] | None = None,
    mix: str = "advantages",
    clip: float = 5.0,
    spread: str = "group",
) -> Tensor:
    """(R - mean) / std, mean of each group, over several rewards: float32 (batch,), clipped to +-clip.

    rewards: name -> (batch,), images of a group side by side; NaN marks a failed score. weights: name -> weight,
    normalised to sum 1; None weighs all alike. mix "advantages" normalises each reward in its group and mixes then
    (the paper); "rewards" mixes first. A failed score enters neither mean nor std and gives its image no advantage
    for that reward; a group without spread gives none at all.
    spread says whose std it is. "group": its own, the sample's (divided by n - 1). "iteration": that of all rewards,
    whatever their group, divided by n: a group whose images are nearly alike then weighs little, and nothing blows up
    its differences (Flow-GRPO, UniRL, verl-omni; their code adds 1e-4, which no reward's scale was asked for).
    """
    if mix not in MIXES:
        raise ValueError(f"mix is '{mix}': choose {' or '.join(MIXES)}.")
    if spread not in SPREADS:
        raise ValueError(f"spread is '{spread}': choose {' or '.join(SPREADS)}.")
    shares = _normalised_weights(rewards, weights)
    if mix == "rewards":
        mixed = sum(share * rewards[name].float() for name, share in shares.items())
        assert isinstance(mixed, Tensor)  # there is at least one share
        advantages = _normalise(mixed, group_size, spread)
    else:
        mixed = sum(share * _normalise(rewards[name].float(), group_size, spread) for name, share in shares.items())
        assert isinstance(mixed, Tensor)
        advantages = mixed
    return advantages.clamp(-clip, clip)


def _normalised_weights(rewards: Mapping[str, Tensor], weights: Mapping[str, float] | None) -> dict[str, float]:
    if not rewards:
        raise ValueError("There is no reward to learn from: give at least one.")
    given = {name: 1.0 if weights is None else float(weights.get(name, 0.0)) for name in rewards}
    total = sum(given.values())
    if any(value < 0 for value in given.values()) or total <= 0:
        raise ValueError(f"Reward weights {given} can't be used: they must be 0 or more and not all 0.")
    return {name: value / total for name, value in given.items() if value > 0}


def _normalise(rewards: Tensor, group_size: int, spread: str) -> Tensor:
    """One reward: (batch,) to advantages (batch,); 0 where there is no signal."""
    if len(rewards) % group_size:
        raise ValueError(f"{len(rewards)} rewards don't divide into groups of {group_size}.")
    groups = rewards.view(-1, group_size)
    valid = groups.isfinite()
    count = valid.sum(1, keepdim=True)
    known = torch.where(valid, groups, 0.0)
    mean = known.sum(1, keepdim=True) / count.clamp(min=1)
    centred = torch.where(valid, groups - mean, 0.0)
    std = (centred.square().sum(1, keepdim=True) / (count - 1).clamp(min=1)).sqrt()
    signal = valid & (std > MIN_RELATIVE_STD * (1 + mean.abs()))
    if spread == "iteration" and valid.any():
        std = rewards[rewards.isfinite()].std(correction=0)
    return torch.where(signal, centred / torch.where(std > 0, std, 1.0), 0.0).flatten()
