"""What CLIPScore, HPS and PickScore share: how near an image and its prompt are in a CLIP's space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor

from ..files import catalog, kinds
from . import clip_model, image_input
from .clip_text import TextMemory, Tokenizer
from .model_reward import ModelOptions, ModelReward, Residence


class ClipReward(ModelReward[clip_model.Clip]):
    """A subclass says which weights it takes, what these see and compute with, and what becomes of the cosine."""

    kind, known = kinds.CLIP, catalog.CLIP_L

    activation = "auto"
    # open_clip's cleaning of prompts: see clip_text.Tokenizer.
    clean_prompts = False
    # (images, size) -> pixels: one of image_input's.
    prepare: Callable[[Tensor, int], Tensor] = staticmethod(image_input.cropped)

    def __init__(
        self,
        weights: str | Path,
        tokenizer: str | Path,
        options: ModelOptions | None = None,
        residence: Residence | None = None,
    ) -> None:
        """weights: a CLIP in the layout of transformers or open_clip. tokenizer: a folder with vocab.json, merges.txt.

        Nothing is read before the first score; it then raises FileNotFoundError or ValueError with one sentence.
        """
        super().__init__(options, residence)
        self.weights, self.tokenizer = Path(weights), Path(tokenizer)
        self.text_weights: Path | None = None
        self._texts: TextMemory | None = None

    def scaled(self, clip: clip_model.Clip, cosines: Tensor) -> Tensor:
        """Cosines (batch,), -1 to 1, as scores."""
        raise NotImplementedError

    def read_clip(self, end_token: int) -> clip_model.Clip:
        """The network with both towers, in float32 on the CPU; end_token ends a prompt."""
        kinds.require(self.kind, self.weights, self.known.choice)
        return clip_model.load(
            self.weights, text_path=self.text_weights, activation=self.activation, end_token=end_token
        )

    def load(self) -> clip_model.Clip:
        tokenizer = Tokenizer(self.tokenizer, self.clean_prompts)
        clip = self.read_clip(tokenizer.end)
        assert clip.text is not None
        length = clip.text.config.max_position_embeddings
        # On the CPU, so that nothing of it is left behind on the device.
        self._texts = TextMemory(
            lambda prompts: clip.embed_tokens(tokenizer(prompts, length).to(self.options.device)).cpu()
        )
        return clip

    def score_batch(self, module: clip_model.Clip, images: Tensor, prompts: Sequence[str]) -> Tensor:
        seen, read = self.embeddings(module, images, prompts)
        return self.scaled(module, (seen * read).sum(-1))

    def embeddings(self, module: clip_model.Clip, images: Tensor, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Of images and their prompts, (batch, width) each, of length 1."""
        assert self._texts is not None
        seen = module.embed_images(self.prepare(images, module.image_size))
        return seen, self._texts(prompts).to(seen.device)

    def close(self) -> None:
        self._texts = None
        super().close()
