"""Scorers get a prompt's words without ComfyUI's weighting syntax, which only text encoders understand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from ...mixgrpo_engine.rewards import Reward, check_reward
from ...mixgrpo_engine.rewards.mix import RewardMix
from ...mixgrpo_engine.rewards.references import References


def without_weights(prompt: str) -> str:
    """The text that ComfyUI's tokenizers see: "a (red:1.3) cat \\(asleep\\)" is "a red cat (asleep)"."""
    from comfy import sd1_clip

    segments = sd1_clip.token_weights(sd1_clip.escape_important(prompt), 1.0)
    return "".join(sd1_clip.unescape_important(segment) for segment, _ in segments)


class PlainPrompts:
    """A reward that may be given prompts as text encoders get them. Implements the engine's Reward."""

    def __init__(self, reward: Reward) -> None:
        self.reward, self.name = reward, reward.name
        for name in ("strict", "score_videos"):
            if hasattr(reward, name):
                setattr(self, name, _plainly(getattr(reward, name)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.reward, name)  # what else a reward may have

    def score(self, images: Tensor, prompts: Sequence[str], *references: Sequence[References]) -> Tensor:
        return _plainly(self.reward.score)(images, prompts, *references)


def by_plain_prompts(rewards: Mapping[str, Reward]) -> dict[str, Reward]:
    return {name: PlainPrompts(reward) for name, reward in rewards.items()}


def reading_plain_prompts(reward: Reward) -> Reward:
    """The same of a reward, or a mix of several. Raises ValueError for what is no reward."""
    if isinstance(reward, RewardMix):
        return RewardMix(by_plain_prompts(reward.rewards), reward.weights, reward.normalisation)
    check_reward(reward)
    return PlainPrompts(reward)


def _plainly(score: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda images, prompts, *references: score(images, [*map(without_weights, prompts)], *references)
