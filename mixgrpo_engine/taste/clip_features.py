"""What a CLIP sees of an image: its embedding, and how near that is to its prompt's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..rewards.clip_score import ClipScoreReward


class ClipFeatures:
    """Features of a CLIPScore reward's network: the image's embedding, of length 1, and the cosine to its prompt's."""

    def __init__(self, reward: ClipScoreReward) -> None:
        """Nothing is read before the first image."""
        self.reward = reward
        self.key = f"clip {reward.weights.name} {reward.weights.stat().st_size}"

    @property
    def blocks(self) -> Mapping[str, int]:
        """Of the network, which is loaded for it."""
        return {"clip image": self.reward.module().width, "clip prompt": 1}

    def device_bytes(self) -> int:
        return self.reward.device_bytes()

    @torch.no_grad()
    def of(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        module, found = self.reward.module(), []
        size = self.reward.options.batch_size or len(images)
        with self.reward.residence.occupied(module):
            for start in range(0, len(images), size):
                batch = images[start : start + size].to(self.reward.options.device).float().clamp(0, 1)
                seen, read = self.reward.embeddings(module, batch, prompts[start : start + size])
                found.append(torch.cat([seen, (seen * read).sum(-1, keepdim=True)], 1).float().cpu())
        return torch.cat(found)
