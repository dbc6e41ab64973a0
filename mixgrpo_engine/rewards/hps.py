"""HPSv2.1: a CLIP that was taught which of two images of a prompt people prefer (arXiv 2306.09341)."""

from __future__ import annotations

from torch import Tensor

from .files import catalog, kinds
from .networks import clip_model, image_input
from .networks.clip_reward import ClipReward


class HPSReward(ClipReward):
    """The cosine of image and prompt, as published: 0.2 to 0.35 on pictures, higher is better.

    It compares images of the SAME prompt; scores of different prompts say nothing about each other. Weights:
    HPS_v2.1_compressed.pt of xswu/HPSv2 (open_clip's ViT-H-14, some 2 GB), or the same as .safetensors. As in hpsv2's
    own scorer, an image that isn't square is padded with black, never cropped, and prompts are cleaned as
    open_clip does.
    """

    name = "hps"
    kind, known = kinds.HPS, catalog.HPS
    activation = "gelu"
    clean_prompts = True
    prepare = staticmethod(image_input.padded)

    def scaled(self, clip: clip_model.Clip, cosines: Tensor) -> Tensor:
        return cosines
