"""PickScore: a CLIP that was taught which of two images of a prompt people prefer (arXiv 2305.01569)."""

from __future__ import annotations

from torch import Tensor

from .files import catalog, kinds
from .networks import clip_model
from .networks.clip_reward import ClipReward


class PickScoreReward(ClipReward):
    """The weights' own scale (about 100) x the cosine of image and prompt, as published: 15 to 25 on pictures.

    Many papers report a hundredth of it. It compares images of the SAME prompt; scores of different prompts say
    nothing about each other. Weights: model.safetensors of yuvalkirstain/PickScore_v1 (transformers' CLIP ViT-H/14,
    some 4 GB); its processor is that of LAION's ViT-H/14: shorter side resized, centre cropped.
    """

    name = "pick_score"
    kind, known = kinds.PICK_SCORE, catalog.PICK_SCORE
    activation = "gelu"

    def read_clip(self, end_token: int) -> clip_model.Clip:
        clip = super().read_clip(end_token)
        if clip.scale is None:
            raise ValueError(f"{self.weights.name} lacks logit_scale: it isn't the weights of PickScore.")
        return clip

    def scaled(self, clip: clip_model.Clip, cosines: Tensor) -> Tensor:
        assert clip.scale is not None  # read_clip() has seen to it
        return clip.scale * cosines
