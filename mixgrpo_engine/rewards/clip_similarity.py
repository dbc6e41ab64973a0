"""How much an edited image still looks like the picture that it was made from, in a CLIP's space."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from . import check_batch
from .files import catalog, kinds
from .networks import clip_model, image_input
from .networks.model_reward import ModelOptions, ModelReward, Residence
from .references import IMAGE, References


class ClipSimilarityReward(ModelReward[clip_model.Clip]):
    """The cosine of image and source picture in a CLIP's space (CLIP-I): 1 for the same picture, 0.5 to 1 mostly.

    It keeps an edit from changing what the picture is about; alone it is best when nothing is edited, so mix it with a
    reward that reads the instruction. Scores of different CLIPs can't be compared.
    """

    name = "clip_similarity"
    uses_references = True
    needed_references = (IMAGE,)

    def __init__(
        self,
        weights: str | Path,
        options: ModelOptions | None = None,
        residence: Residence | None = None,
        *,
        activation: str = "auto",
    ) -> None:
        """weights: a whole CLIP, or its vision tower with the projection, in the layout of transformers or open_clip.

        activation: see clip_model.load(). Nothing is read before the first score; it then raises FileNotFoundError or
        ValueError with one sentence.
        """
        super().__init__(options, residence)
        self.weights, self.activation = Path(weights), activation

    def load(self) -> clip_model.Clip:
        kinds.require(kinds.CLIP, self.weights, catalog.CLIP_L.choice)
        return clip_model.load(self.weights, activation=self.activation, with_text=False)

    def score(self, images: Tensor, prompts: Sequence[str], references: Sequence[References] = ()) -> Tensor:
        """As ModelReward.score(). references: one an image, with a picture "image" of any size."""
        check_batch(images, prompts)
        return self.score_beside(images, [each.images[IMAGE] for each in references])

    def score_batch(self, module: clip_model.Clip, images: Tensor, beside: Sequence[Tensor]) -> Tensor:
        """beside: the sources, (height, width, 3) each."""
        # A group shares its source.
        different = {id(source): source for source in beside}
        pixels = [image_input.cropped(source[None], module.image_size) for source in different.values()]
        seen = module.embed_images(torch.cat(pixels).to(images.device))
        own = seen[[list(different).index(id(source)) for source in beside]]
        return (module.embed_images(image_input.cropped(images, module.image_size)) * own).sum(-1)
