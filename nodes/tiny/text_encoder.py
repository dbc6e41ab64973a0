"""The tiny model's text encoder as a CLIP that the stock CLIP Text Encode uses.

Its vocabulary is words, not pieces of words, and its weights are in ComfyUI's own CLIP classes.
Imports ComfyUI's model code: import this module only when the node runs.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import comfy.clip_model
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models_base
import torch
from safetensors import safe_open

from ..comfy_types import Clip

NAME = "tiny"
PAD, START, END, UNKNOWN = 0, 1, 2, 3


class WordTokenizer:
    """Text -> rows of ``length`` (token, weight) pairs: start, words, end, padding.

    Weights like (red:1.3) work as everywhere in ComfyUI. A word that isn't in the vocabulary becomes the unknown
    word. A prompt that is too long for one row goes on in further rows.
    """

    def __init__(self, vocabulary: list[str], length: int) -> None:
        self.words = vocabulary
        self.length = length
        self.tokens = {word: token for token, word in enumerate(vocabulary)}

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **options: Any) -> dict[str, list[list]]:
        if options.get("disable_weights", False):
            segments = [(text, 1.0)]
        else:
            segments = comfy.sd1_clip.token_weights(comfy.sd1_clip.escape_important(text), 1.0)
        pairs = [
            (self.tokens.get(word, UNKNOWN), weight)
            for segment, weight in segments
            for word in re.findall(r"[a-z]+", comfy.sd1_clip.unescape_important(segment).lower())
        ]
        words = [(token, weight, number) for number, (token, weight) in enumerate(pairs, start=1)]
        room = self.length - 2
        rows = []
        for start in range(0, max(len(words), 1), room):
            part = words[start : start + room]
            row = [(START, 1.0, 0), *part, (END, 1.0, 0), *[(PAD, 1.0, 0)] * (room - len(part))]
            rows.append(row if return_word_ids else [pair[:2] for pair in row])
        return {NAME: rows}

    def untokenize(self, pairs: list[tuple]) -> list[tuple]:
        return [(pair, self.words[pair[0]]) for pair in pairs]

    def state_dict(self) -> dict:
        return {}


class TextModel(comfy.clip_model.CLIPTextModel):
    """ComfyUI's CLIP text model with an embedding table as small as the vocabulary."""

    def __init__(self, config: dict, dtype: torch.dtype | None, device: Any, operations: Any) -> None:
        super().__init__(config, dtype, device, operations)
        table = operations.Embedding(config["vocab_size"], config["hidden_size"], dtype=dtype, device=device)
        self.set_input_embeddings(table)


def load_clip(path: Path) -> Clip:
    """The text encoder's file as a CLIP. Raises FileNotFoundError if it is gone."""
    if not path.is_file():
        raise FileNotFoundError(
            f"The tiny model's file {path.name} is missing from {path.parent}: reinstall the pack to get it back."
        )
    with safe_open(str(path), framework="pt") as file:
        metadata = file.metadata()
        weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    config = json.loads(metadata["config"])
    vocabulary = json.loads(metadata["vocabulary"])

    def tokenizer(**_: Any) -> WordTokenizer:
        return WordTokenizer(vocabulary, config["max_position_embeddings"])

    def encoder(
        device: Any = "cpu", dtype: torch.dtype | None = None, model_options: dict | None = None, **_: Any
    ) -> comfy.sd1_clip.SDClipModel:
        return comfy.sd1_clip.SDClipModel(
            device=device,
            dtype=dtype,
            max_length=config["max_position_embeddings"],
            layer="last",
            textmodel_json_config=dict(config),  # ComfyUI changes the dict that it gets
            special_tokens={"start": START, "end": END, "pad": PAD},
            model_class=TextModel,
            model_options=model_options or {},
        )

    def model(**options: Any) -> comfy.sd1_clip.SD1ClipModel:
        return comfy.sd1_clip.SD1ClipModel(clip_name=NAME, clip_model=encoder, **options)

    clip = comfy.sd.CLIP(comfy.supported_models_base.ClipTarget(tokenizer, model))
    clip.load_sd(weights)
    return clip
