"""ImageReward (arXiv 2304.05977): how much people like an image for a prompt, learned from 137,000 comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .files import catalog, kinds, weight_files
from .networks import image_input
from .networks.blip_layout import ImageRewardNetwork, build
from .networks.model_reward import ModelOptions, ModelReward, Residence

if TYPE_CHECKING:
    from tokenizers import BertWordPieceTokenizer

# The raw score's mean and standard deviation over the authors' data: scores then lie around 0, mostly in -2..2.
MEAN, DEVIATION = 0.16717362830052426, 1.0333394966054072
TOKENS = 35  # of a prompt, [CLS] and [SEP] included; the rest is cut off


class ImageRewardReward(ModelReward[ImageRewardNetwork]):
    """Its scores may be compared between prompts, unlike those of HPS and PickScore."""

    name = "image_reward"

    def __init__(
        self,
        weights: str | Path,
        tokenizer: str | Path,
        options: ModelOptions | None = None,
        residence: Residence | None = None,
    ) -> None:
        """weights: ImageReward.pt, or the same tensors as .safetensors.

        tokenizer: the vocab.txt of bert-base-uncased, or a folder with it. Both are read when first needed.
        """
        super().__init__(options, residence)
        self.weights, self.vocab = Path(weights), Path(tokenizer)
        self._tokenizer: BertWordPieceTokenizer | None = None

    def load(self) -> ImageRewardNetwork:
        """Raises FileNotFoundError or ValueError with one sentence."""
        kinds.require(kinds.IMAGE_REWARD, self.weights, catalog.IMAGE_REWARD.choice)
        try:
            network = build(weight_files.read(self.weights))
        except ImportError as error:
            raise ValueError(f"ImageReward needs the Python package transformers ({error}): install it.") from None
        except ValueError as error:
            raise ValueError(f"{self.weights.name} can't be used as ImageReward: {error}") from None
        self._tokenizer, words = _read_vocab(self.vocab)
        if words != network.vocabulary:
            raise ValueError(
                f"{self.vocab} gives {words} tokens, but {self.weights.name} knows {network.vocabulary}: take the "
                "vocab.txt of bert-base-uncased."
            )
        return network

    def score_batch(self, module: ImageRewardNetwork, images: Tensor, prompts: Sequence[str]) -> Tensor:
        tokens, mask = self._tokenize(prompts)
        # BLIP took CLIP's preprocessing over.
        pixels = image_input.cropped(images, module.image_size)
        raw = module(pixels, tokens.to(images.device), mask.to(images.device))
        return (raw.float() - MEAN) / DEVIATION

    def _tokenize(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """(tokens, mask), each int64 (batch, TOKENS)."""
        assert self._tokenizer is not None
        encodings = self._tokenizer.encode_batch(list(prompts))
        return (
            torch.tensor([encoding.ids for encoding in encodings]),
            torch.tensor([encoding.attention_mask for encoding in encodings]),
        )


def _read_vocab(path: Path) -> tuple[BertWordPieceTokenizer, int]:
    """(tokenizer, how many tokens it knows) of a vocab.txt, set up as BLIP does."""
    from tokenizers import BertWordPieceTokenizer

    file = path / "vocab.txt" if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"There is no file {file}: put the vocab.txt of bert-base-uncased there.")
    try:
        words = file.read_text(encoding="utf-8").rstrip("\n").split("\n")
    except UnicodeDecodeError:
        words = []
    if not {"[PAD]", "[UNK]", "[CLS]", "[SEP]"} <= set(words):
        raise ValueError(f"{file} isn't BERT's list of words: take the vocab.txt of bert-base-uncased.")
    tokenizer = BertWordPieceTokenizer({word: number for number, word in enumerate(words)}, lowercase=True)
    tokenizer.add_special_tokens(["[DEC]", "[ENC]"])  # BLIP's own, the last two rows of its embedding
    tokenizer.enable_truncation(TOKENS)
    tokenizer.enable_padding(length=TOKENS, pad_id=tokenizer.token_to_id("[PAD]"))
    return tokenizer, tokenizer.get_vocab_size()
