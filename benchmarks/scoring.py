"""Part C: what scoring a group of images in one batch saves against the published way, image by image.

A CLIP of ViT-B/32's size with random weights: how fast it is doesn't depend on them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mixgrpo_engine.rewards.clip_score import ClipScoreReward
from mixgrpo_engine.rewards.networks.clip_model import Clip
from mixgrpo_engine.rewards.networks.model_reward import ModelOptions

IMAGES, PIXELS, LAYERS = 12, 512, 12
BATCHED, SINGLE, PUBLISHED = "one batch", "an image a call", "published way, image by image"


class RandomClipScore(ClipScoreReward):
    """CLIPScore without a file, all images at once."""

    def __init__(self, tokenizer: Path, layers: int):
        super().__init__("random weights", tokenizer, ModelOptions(batch_size=0, keep_loaded=True))
        self.layers = layers

    def read_clip(self, end_token: int) -> Clip:
        from transformers import (
            CLIPTextConfig,
            CLIPTextModelWithProjection,
            CLIPVisionConfig,
            CLIPVisionModelWithProjection,
        )

        # What is left out are both classes' defaults: ViT-B/32.
        vision = CLIPVisionConfig(num_hidden_layers=self.layers)
        text = CLIPTextConfig(num_hidden_layers=self.layers, eos_token_id=end_token)
        return Clip(CLIPVisionModelWithProjection(vision), CLIPTextModelWithProjection(text), None)


def published_way(reward: RandomClipScore) -> Callable[[Tensor, Sequence[str]], Tensor]:
    """score(images, prompts) as the model cards show it: Pillow, CLIPProcessor, one image and its prompt at a time."""
    from PIL import Image
    from transformers import CLIPImageProcessor, CLIPProcessor, CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(str(reward.tokenizer), local_files_only=True)
    process, clip = CLIPProcessor(CLIPImageProcessor(), tokenizer), reward.module()

    @torch.no_grad()
    def score(images: Tensor, prompts: Sequence[str]) -> Tensor:
        scores = []
        for image, prompt in zip(images, prompts, strict=True):
            picture = Image.fromarray((image * 255).round().byte().numpy())
            inputs = process(
                images=picture, text=prompt, return_tensors="pt", padding=True, truncation=True, max_length=77
            )
            embedding, text = clip.embed_images(inputs["pixel_values"]), clip.embed_tokens(inputs["input_ids"])
            scores.append(100 * (embedding * text).sum(-1))
        return torch.cat(scores)

    return score


def measure(
    tokenizer: Path, rounds: int, *, images: int = IMAGES, pixels: int = PIXELS, layers: int = LAYERS
) -> list[dict]:
    """One sample a round: {"round", "seconds": {way: seconds}}. The ways take turns, and who begins changes."""
    reward = RandomClipScore(tokenizer, layers)
    published = published_way(reward)
    group = torch.rand(images, pixels, pixels, 3, generator=torch.Generator().manual_seed(0))

    def one_by_one(group: Tensor, prompts: Sequence[str]) -> Tensor:
        return torch.cat([reward.score(group[i : i + 1], prompts[i : i + 1]) for i in range(len(group))])

    ways = {BATCHED: reward.score, SINGLE: one_by_one, PUBLISHED: published}
    _check_equal({name: way(group, ["warm-up"] * images) for name, way in ways.items()})
    samples = []
    for number in range(rounds):
        seconds = {}
        for turn in range(len(ways)):
            name = list(ways)[(number + turn) % len(ways)]
            # A group's prompt, new each time: remembered text embeddings must not help.
            prompts = [f"a red circle to the left of two blue squares, {number} {turn}"] * images
            start = time.perf_counter()
            ways[name](group, prompts)
            seconds[name] = time.perf_counter() - start
        samples.append({"round": number, "seconds": seconds})
        print(f"scoring {number + 1}/{rounds}: " + ", ".join(f"{name} {seconds[name]:.2f} s" for name in ways))
    return samples


def _check_equal(scores: dict[str, Tensor]) -> None:
    """Raises ValueError unless all ways give the same scores, but for the processor's rounding of pixels."""
    for name, values in scores.items():
        if not torch.allclose(values, scores[BATCHED], atol=0.1, rtol=0):
            raise ValueError(f"'{name}' gives other scores than '{BATCHED}': their times can't be compared.")


def summarise(samples: Sequence[dict]) -> list[dict]:
    """One row a way: "seconds" and "ratio" to one batch in the same round, {"median", "low", "high"} (quartiles)."""
    return [
        {
            "way": way,
            "seconds": _quartiles([sample["seconds"][way] for sample in samples]),
            "ratio": _quartiles([sample["seconds"][way] / sample["seconds"][BATCHED] for sample in samples]),
        }
        for way in (BATCHED, SINGLE, PUBLISHED)
    ]


def _quartiles(values: Sequence[float]) -> dict[str, float]:
    if len(values) < 2:
        return {"median": values[0], "low": values[0], "high": values[0]}
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "low": low, "high": high}
