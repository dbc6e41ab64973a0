"""Prompts as CLIP embeddings: each one is encoded once, however many images and calls it has."""

from __future__ import annotations

import html
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

# Embeddings that are remembered: some KB each.
REMEMBERED = 4096


class Tokenizer:
    """CLIP's tokens of a prompt, from a folder with vocab.json and merges.txt. Nothing is ever downloaded."""

    def __init__(self, folder: str | Path, clean: bool = False) -> None:
        """clean: open_clip's and OpenAI's cleaning first (broken Unicode and curly quotes mended, HTML entities
        resolved), which transformers leaves out. Raises FileNotFoundError when the folder lacks one of the files.
        """
        from transformers import CLIPTokenizer

        folder = Path(folder)
        for name in ("vocab.json", "merges.txt"):
            if not (folder / name).is_file():
                raise FileNotFoundError(f"There is no {name} in {folder}: it must hold the tokenizer of a CLIP.")
        self.clean = clean
        self._tokenizer = CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
        self.end = self._tokenizer.eos_token_id

    def __call__(self, prompts: Sequence[str], length: int) -> Tensor:
        """int64 (prompts, tokens), as long as the longest, `length` (77 for all published CLIPs) at most.

        A longer prompt is cut; its end token stays. Shorter ones are filled up with end tokens, which nothing before
        them can see.
        """
        prompts = [_cleaned(prompt) for prompt in prompts] if self.clean else list(prompts)
        rows = self._tokenizer(prompts, truncation=True, max_length=length)["input_ids"]
        longest = max(map(len, rows))
        return torch.tensor([row + [self.end] * (longest - len(row)) for row in rows])


class TextMemory:
    """Embeddings of the prompts seen last, by prompt."""

    def __init__(self, encode: Callable[[list[str]], Tensor]) -> None:
        """encode(prompts) -> (prompts, width); asked only for what isn't remembered, each prompt once."""
        self._encode = encode
        self._known: OrderedDict[str, Tensor] = OrderedDict()

    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """(prompts, width), where and as encode() gives it."""
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._known]
        found = {prompt: self._known[prompt] for prompt in prompts if prompt in self._known}
        if new:
            found.update(zip(new, self._encode(new), strict=True))
        for prompt, embedding in found.items():
            self._known[prompt] = embedding
            self._known.move_to_end(prompt)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return torch.stack([found[prompt] for prompt in prompts])

    def clear(self) -> None:
        self._known.clear()


def _cleaned(prompt: str) -> str:
    import ftfy

    return html.unescape(html.unescape(ftfy.fix_text(prompt)))
