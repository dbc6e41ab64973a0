"""Stage 2: the denoiser, a tiny MMDiT of the SD3 family, trained as a rectified flow with the text encoder.

ComfyUI's own model class is trained, so that the result is exactly what ComfyUI will load and run.
"""

import copy
import math
import random
import time
from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.nn import functional as F

from mixgrpo_engine import shapes
from mixgrpo_engine.shapes import Scene, Spec

from . import data, text
from .vae import TinyVAE

DEPTH = 2  # blocks, and heads of 64 channels
LATENT_CHANNELS = 16
SHIFT = 3.0  # of the noise schedule; what ComfyUI assumes for SD3

SCENES = 40_000
STEPS, BATCH, LEARNING_RATE = 10_000, 128, 2e-3
WARM_UP, TAIL = 200, 0.4  # steps of rising learning rate; share of the steps with falling learning rate
EMA_DECAY = 0.998
WRONG_CAPTIONS = 0.4  # share of captions with one wrong attribute
EMPTY_CAPTIONS = 0.05  # for classifier-free guidance
UNKNOWN_WORDS = 0.01  # share of words replaced by the unknown word


class Model(nn.Module):
    """The trained pair: ``text`` and ``denoiser``."""

    def __init__(self, text_encoder: text.TextEncoder):
        super().__init__()
        self.text = text_encoder
        self.denoiser = _denoiser()

    def velocity(self, latents: torch.Tensor, sigma: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """latents (batch, 16, h, w), sigma (batch,) in 0..1, tokens (batch, 16) -> velocity like latents."""
        context, pooled = self.text(tokens)
        return self.denoiser(latents, sigma * 1000, context=context, y=pooled)


def _denoiser() -> nn.Module:
    """A fresh denoiser whose first output is zero and whose blocks begin as the identity."""
    from . import comfy_classes

    model = comfy_classes.MMDiT(
        input_size=None,
        in_channels=LATENT_CHANNELS,
        depth=DEPTH,
        adm_in_channels=text.WIDTH,
        context_embedder_config={
            "target": "torch.nn.Linear",
            "params": {"in_features": text.WIDTH, "out_features": 64 * DEPTH},
        },
        qk_norm="rms",
        operations=torch.nn,
    )
    for name, parameter in model.named_parameters():
        if "ln_q" in name or "ln_k" in name:
            nn.init.ones_(parameter)
        elif "adaLN_modulation" in name or name.startswith("final_layer.linear"):
            nn.init.zeros_(parameter)
        elif parameter.ndim > 1:
            nn.init.xavier_uniform_(parameter.view(len(parameter), -1))
        else:
            nn.init.zeros_(parameter)
    return model


def cache_latents(vae: TinyVAE, count: int = SCENES, seed: int = 0) -> tuple[list[tuple[Spec, Scene]], torch.Tensor]:
    """Draw and encode ``count`` scenes once: what they show, and their latents (count, 16, 8, 8)."""
    rng = random.Random(seed)
    specs = [data.random_spec(rng) for _ in range(count)]
    scenes = [shapes.layout(spec, rng) for spec in specs]
    latents = []
    with torch.no_grad():
        for start in range(0, count, 100):
            pictures = data.pictures(scenes[start : start + 100]).float() / 255
            latents.append(vae.encode(pictures.contiguous(memory_format=torch.channels_last)))
    return list(zip(specs, scenes, strict=True)), torch.cat(latents).contiguous()


def _captions(shown: list[tuple[Spec, Scene]], wrong: float, rng: random.Random) -> torch.Tensor:
    """Fresh captions as tokens (batch, 16): some wrong, a few empty, a few with an unknown word."""
    batch = []
    for spec, scene in shown:
        if rng.random() < EMPTY_CAPTIONS:
            batch.append(text.tokens(""))
            continue
        told = data.true_spec(spec, scene, rng)
        if rng.random() < wrong:
            told = data.wrong_spec(told, rng)
        read = text.tokens(shapes.write(told))
        batch.append([text.UNKNOWN if t > text.UNKNOWN and rng.random() < UNKNOWN_WORDS else t for t in read])
    return torch.tensor(batch)


def sigmas(count: int) -> torch.Tensor:
    """Logit-normal noise levels, shifted like the sampler's schedule. (count,) in 0..1."""
    u = torch.sigmoid(torch.randn(count))
    return SHIFT * u / (1 + (SHIFT - 1) * u)


def train(
    encoder: text.TextEncoder,
    shown: list[tuple[Spec, Scene]],
    latents: torch.Tensor,
    seed: int = 0,
    steps: int = STEPS,
    wrong: float = WRONG_CAPTIONS,
    log=print,
    each: Callable[[int, Model], None] | None = None,
) -> Model:
    """Train from nothing (but a text encoder that can read); returns the averaged weights.

    each(step, averaged model) is called every 1,000 steps.
    """
    torch.manual_seed(seed)
    rng = random.Random(seed)
    model = Model(encoder)
    average = copy.deepcopy(model)
    # The text encoder can read already: it learns slowly.
    groups = [
        {"params": model.denoiser.parameters(), "lr": LEARNING_RATE},
        {"params": model.text.parameters(), "lr": LEARNING_RATE / 5},
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.01, fused=True)

    def pace(step: int) -> float:
        falling = max(0.0, (step - steps * (1 - TAIL)) / (steps * TAIL))
        return min(1, (step + 1) / WARM_UP) * (0.01 + 0.99 * (1 + math.cos(math.pi * falling)) / 2)

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, pace)
    started, losses = time.monotonic(), []
    batches = _shuffled(len(latents), rng)
    for step in range(1, steps + 1):
        picked = next(batches)
        tokens = _captions([shown[i] for i in picked], wrong, rng)
        clean = latents[picked]
        noise = torch.randn_like(clean)
        sigma = sigmas(len(clean))
        level = sigma.view(-1, 1, 1, 1)
        with torch.autocast("cpu", torch.bfloat16):
            got = model.velocity((1 - level) * clean + level * noise, sigma, tokens)
        loss = F.mse_loss(got.float(), noise - clean)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.detach())
        with torch.no_grad():
            decay = min(EMA_DECAY, step / (step + 10))
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
        if step % 200 == 0:
            log(
                f"denoiser step {step}/{steps} loss {torch.stack(losses).mean().item():.4f} "
                f"{time.monotonic() - started:.0f} s"
            )
            losses.clear()
        if each is not None and step % 1000 == 0:
            each(step, average)
    return average


def _shuffled(count: int, rng: random.Random) -> Iterator[list[int]]:
    """Endless batches of indices; every epoch in a new order."""
    while True:
        order = rng.sample(range(count), count)
        for start in range(0, count - BATCH + 1, BATCH):
            yield order[start : start + BATCH]


@torch.no_grad()
def sample(
    model: Model, prompts: list[str], steps: int = 25, seed: int = 0, noise: torch.Tensor | None = None
) -> torch.Tensor:
    """Euler from noise to latents (prompts, 16, 8, 8), at the noise levels of KSampler's euler / simple, cfg 1."""
    tokens = torch.tensor([text.tokens(prompt) for prompt in prompts])
    context, pooled = model.text(tokens)
    u = torch.linspace(1, 0, steps + 1)
    levels = SHIFT * u / (1 + (SHIFT - 1) * u)
    if noise is None:
        noise = torch.randn(len(prompts), LATENT_CHANNELS, 8, 8, generator=torch.Generator().manual_seed(seed))
    latents = noise
    for now, after in zip(levels[:-1], levels[1:], strict=True):
        velocity = model.denoiser(latents, now.expand(len(prompts)) * 1000, context=context, y=pooled)
        latents = latents + (after - now) * velocity
    return latents
