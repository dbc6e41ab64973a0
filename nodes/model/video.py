"""Videos for scorers of images: the engine sees one tall image, the frames one below the other."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...mixgrpo_engine.rewards import Reward, checked_scores
from ...mixgrpo_engine.rewards.mix import RewardMix
from ...mixgrpo_engine.rewards.references import References
from ..comfy_types import Model, Vae

_IMAGES_ONLY = ("QwenImage",)  # BaseModel classes whose latents have a time axis that only ever holds one image


class FrameMean:
    """A reward of a video: the mean of another reward's scores of its frames, or what its score_videos() gives.

    Implements the engine's Reward.
    """

    def __init__(self, reward: Reward, frames: int) -> None:
        """reward: of images. frames: how many an image of `filmstrip` holds."""
        self.reward, self.frames = reward, frames
        self.name = reward.name
        if hasattr(reward, "strict"):
            self.strict = functools.partial(self._mean, reward.strict)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.reward, name)  # what else a reward may have

    def score(self, images: Tensor, prompts: Sequence[str], *references: Sequence[References]) -> Tensor:
        """images: (batch, frames * height, width, 3). float32 (batch,); NaN where a frame couldn't be scored."""
        if hasattr(self.reward, "score_videos"):
            return self.reward.score_videos(images.unflatten(1, (self.frames, -1)), prompts, *references)
        return self._mean(functools.partial(checked_scores, self.reward), images, prompts, *references)

    def _mean(self, score: Callable[..., Tensor], images: Tensor, *of_videos: Sequence) -> Tensor:
        of_frames = ([each for each in given for _ in range(self.frames)] for given in of_videos)
        scores = score(single_frames(images, self.frames), *of_frames)
        return torch.as_tensor(scores, dtype=torch.float32).reshape(-1, self.frames).mean(1)


def by_frames(rewards: Mapping[str, Reward], frames: int) -> dict[str, Reward]:
    """The rewards as rewards of videos; for one frame as they are."""
    return {name: FrameMean(reward, frames) if frames > 1 else reward for name, reward in rewards.items()}


def reward_of_videos(reward: Reward, frames: int) -> Reward:
    """A reward, or a mix of several, as one of videos; for one frame as it is."""
    if isinstance(reward, RewardMix):
        return RewardMix(by_frames(reward.rewards, frames), reward.weights, reward.normalisation)
    return FrameMean(reward, frames) if frames > 1 else reward


def filmstrip(images: Tensor, videos: int) -> Tensor:
    """(videos * frames, height, width, 3) to (videos, frames * height, width, 3), a video's frames in their order."""
    return images.reshape(videos, -1, *images.shape[2:])


def single_frames(strips: Tensor, frames: int) -> Tensor:
    """The reverse: (videos, frames * height, width, 3) to (videos * frames, height, width, 3)."""
    return strips.reshape(-1, strips.shape[1] // frames, *strips.shape[2:])


def latent_frames(model: Model, vae: Vae, frames: int) -> int:
    """Length of the latents' time axis for a video of so many frames.

    Raises ValueError for a MODEL that makes single images, or a number of frames that the VAE can't make.
    """
    if frames == 1:
        return 1
    base = model.model
    if base.latent_format.latent_dimensions != 3 or type(base).__name__ in _IMAGES_ONLY:
        kind = type(base).__name__
        raise ValueError(f"frames is {frames}, but this MODEL ({kind}) makes single images: set frames to 1.")
    try:
        length, back = vae.downscale_ratio[0](frames), vae.upscale_ratio[0]
    except TypeError:  # a plain number: the VAE of an image model
        raise ValueError(f"frames is {frames}, but the VAE makes single images: use the MODEL's own VAE.") from None
    if back(length) != frames:
        raise ValueError(f"frames is {frames}: this VAE makes {back(length)} or {back(length + 1)}.")
    return length
