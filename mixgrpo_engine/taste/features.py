"""What a taste sees of an image: plain statistics, a CLIP's embedding, and how well it fits its prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from .. import seeds
from . import statistics

SIGMAS = (0.85, 0.95)  # where most of what a model knows of a prompt shows
PROMPT_FIT = 4  # numbers a sigma


class Features(Protocol):
    """One source of features."""

    key: str
    """Names it with all that its numbers depend on (a file, a model): stored features of another key are no use."""

    @property
    def blocks(self) -> Mapping[str, int]:
        """Name of each of its blocks -> how many numbers it has."""
        ...

    def of(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """images: float (batch, height, width, 3) in 0..1; prompts: one an image. float32 (batch, features), CPU."""
        ...


def sees(source: Features, prompt: str) -> bool:
    """Whether a source can look at images of this prompt; one that doesn't say (`knows(prompt)`) can at all."""
    knows = getattr(source, "knows", None)
    return knows is None or bool(knows(prompt))


class PictureStatistics:
    """Colours, place and size of what is in the picture: see statistics.py."""

    key = "statistics"
    blocks: Mapping[str, int] = {"statistics": statistics.COUNT}

    def of(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        return statistics.statistics(images.detach().cpu())


class PromptFit:
    """How well an image fits its prompt, as a flow model's base sees it without being trained for it.

    The image is noised with a fixed noise to each sigma; the model predicts the velocity with the prompt and without
    one. Four numbers a sigma: the error with the prompt, how much smaller it is than without, how far the true
    velocity lies on the side of the prompt's, and how much the prompt matters. Two model calls a sigma and image.
    """

    def __init__(
        self,
        velocity: Callable[[Tensor, float, Sequence[str]], Tensor],
        encode: Callable[[Tensor], Tensor],
        key: str,
        sigmas: Sequence[float] = SIGMAS,
        knows: Callable[[str], bool] = lambda prompt: True,
    ) -> None:
        """velocity(latents, sigma, prompts): the base model's, "" is no prompt. encode(images): their latents.

        key: names the model. knows: whether the model can be given a prompt.
        """
        self.velocity, self.encode, self.sigmas, self.knows = velocity, encode, tuple(sigmas), knows
        self.key = f"prompt fit {' '.join(map(str, self.sigmas))} {key}"
        self.blocks = {"prompt fit": PROMPT_FIT * len(self.sigmas)}

    @torch.no_grad()
    def of(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        latents = self.encode(images).float()
        found = []
        for number, sigma in enumerate(self.sigmas):
            generator = seeds.generator(0, "taste", number)
            noise = torch.randn(latents.shape[1:], generator=generator).to(latents)
            true = noise - latents
            noised = (1 - sigma) * latents + sigma * noise
            given, without = (self.velocity(noised, sigma, texts) for texts in (prompts, [""] * len(prompts)))
            difference = given - without
            with_prompt, error = _mean_square(given - true), _mean_square(without - true)
            side = ((true - without) * difference).flatten(1).mean(1)
            found += [with_prompt, with_prompt - error, side, _mean_square(difference)]
        return torch.stack(found, 1).cpu()


def _mean_square(values: Tensor) -> Tensor:
    return values.flatten(1).square().mean(1)
