"""Samples images of a prompt as the stock nodes EmptyLatentImage, KSampler and VAEDecode do it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ...mixgrpo_engine import seeds
from ..comfy_types import Conditioning, Model, Vae
from ..model.policy import decode_images, latent_shape
from ..model.video import filmstrip, latent_frames

SEEDS = 2**64  # KSampler's seeds are below it


@dataclass(frozen=True)
class Sampling:
    """KSampler's settings."""

    steps: int
    cfg: float
    sampler: str
    scheduler: str
    width: int
    height: int
    images: int  # of a prompt
    batch_size: int  # images sampled at once, at least 1
    seed: int  # of the first prompt; each has the next one
    frames: int = 1  # of a video; 1 samples images

    def seed_of(self, prompt: int) -> int:
        return (self.seed + prompt) % SEEDS

    def batches(self) -> Iterator[range]:
        """The images of a prompt, as they are sampled."""
        for start in range(0, self.images, self.batch_size):
            yield range(start, min(start + self.batch_size, self.images))

    def model_steps(self) -> int:
        """Sampler steps for a prompt."""
        return self.steps * len(list(self.batches()))


def sample_images(
    model: Model,
    vae: Vae,
    positive: Conditioning,
    negative: Conditioning,
    sampling: Sampling,
    prompt: int,
    on_step: Callable[[], None],
) -> Tensor:
    """The images (of videos the filmstrips) of prompt number `prompt`: float32 (images, height, width, 3) in 0..1, on
    the CPU.

    The noise is that of a KSampler with sampling.seed_of(prompt) and a batch of all images, whatever the model and
    the batch size; on_step() is called after every step. Raises ValueError for a size, VAE or number of
    frames that doesn't fit, and ComfyUI's interrupt as every sampling does.
    """
    import comfy.sample

    length = latent_frames(model, vae, sampling.frames)
    shape = latent_shape(model.model.latent_format, vae, sampling.width, sampling.height, length)
    seed = sampling.seed_of(prompt)
    noise = comfy.sample.prepare_noise(torch.zeros(sampling.images, *shape), seed)
    images = []
    for rows in sampling.batches():
        latents = comfy.sample.sample(
            model,
            noise[rows.start : rows.stop],
            sampling.steps,
            sampling.cfg,
            sampling.sampler,
            sampling.scheduler,
            positive,
            negative,
            torch.zeros(len(rows), *shape),
            callback=lambda *_: on_step(),
            disable_pbar=True,
            # Of the noise that a sampler adds by itself: a later batch must not get the first one's again.
            seed=seed if not rows.start else seeds.derive(seed, "batch", rows.start),
        )
        images.append(filmstrip(decode_images(vae, latents), len(rows)))
    return torch.cat(images)
