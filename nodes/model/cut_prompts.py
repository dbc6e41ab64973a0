"""Which text encoders of a CLIP read only the beginning of a prompt, found by trying: classes don't say."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..comfy_types import Clip, Conditioning

_MORE = " and one more word"


class CutPrompts:
    """Looks at prompts of one CLIP.

    ComfyUI's tokenizers give rows of tokens for each text encoder, further rows for long prompts. HiDream's leaves
    out T5's further rows; and encoders of which only the pooled vector is used, as FLUX's CLIP-L, give that of the
    first row.
    """

    def __init__(self, clip: Clip) -> None:
        self.clip = clip
        self.names: list[str] = []  # of the text encoders
        self._reads_on: dict[str, bool] = {}  # encoder -> whether anything comes of rows after the first

    def encoders(self, prompt: str, tokens: Any, conditioning: Conditioning) -> list[str]:
        """Those that read only the prompt's beginning. tokens, conditioning: what the CLIP has made of the prompt."""
        if not isinstance(tokens, dict):  # a tokenizer of other ways
            return []
        self.names = list(tokens)
        return [
            name
            for name, rows in tokens.items()
            if not (self._read_on(name, tokens, conditioning) if len(rows) > 1 else self._took_all(name, prompt, rows))
        ]

    def _took_all(self, name: str, prompt: str, rows: list) -> bool:
        """Whether the tokenizer would take more; a token is at least a byte, so short prompts needn't be tried."""
        if not rows or len(prompt.encode()) < len(rows[0]):
            return True
        return not equal(self.clip.tokenize(prompt + _MORE).get(name), rows)

    def _read_on(self, name: str, tokens: dict[str, list], conditioning: Conditioning) -> bool:
        """Whether other tokens in the further rows would make another encoding; tried once."""
        if name not in self._reads_on:
            first, *others = tokens[name]
            # As many rows of the same lengths: another batch would be rounded otherwise.
            changed = {**tokens, name: [first, *(row[::-1] for row in others)]}
            self._reads_on[name] = not equal(self.clip.encode_from_tokens_scheduled(changed), conditioning)
        return self._reads_on[name]


def equal(one: Any, other: Any) -> bool:
    """Whether two nested structures of tensors and plain values are the same, wherever the tensors lie."""
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        both = isinstance(one, Tensor) and isinstance(other, Tensor)
        return both and one.shape == other.shape and torch.equal(one.cpu(), other.cpu())
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(equal(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)
