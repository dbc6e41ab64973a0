"""CLIPScore: how well an image shows what its prompt says."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from .networks import clip_model
from .networks.clip_reward import ClipReward
from .networks.model_reward import ModelOptions, Residence


class ClipScoreReward(ClipReward):
    """100 x the cosine of image and prompt in a CLIP's space: 15 to 40 on pictures, higher is better.

    The scale is torchmetrics', per image: a negative cosine stays negative (torchmetrics cuts only the mean of a data
    set at 0), so that bad images keep their order. Hessel et al. (CLIPScore, arXiv 2104.08718) multiply with 2.5.
    Scores of different CLIPs can't be compared.
    """

    name = "clip_score"

    def __init__(
        self,
        weights: str | Path,
        tokenizer: str | Path,
        options: ModelOptions | None = None,
        residence: Residence | None = None,
        *,
        text_weights: str | Path | None = None,
        activation: str = "auto",
    ) -> None:
        """weights: a whole CLIP, or its vision tower with text_weights beside it (both with their projections).

        activation: "quick_gelu" (OpenAI's weights), "gelu" (LAION's), or "auto": see clip_model.load().
        """
        super().__init__(weights, tokenizer, options, residence)
        self.text_weights = Path(text_weights) if text_weights else None
        self.activation = activation

    def scaled(self, clip: clip_model.Clip, cosines: Tensor) -> Tensor:
        return 100 * cosines
