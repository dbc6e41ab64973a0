"""Stage 2: the denoiser, a tiny MMDiT of the SD3 family, trained as a rectified flow on what the text encoder reads.

ComfyUI's own model class is trained, so that the result is exactly what ComfyUI will load and run.

A share of the captions is wrong on purpose, in one attribute each: colour, shape, count, place or background.
Captions on the web are like that, and it leaves a model that draws clean pictures, but often not the ones asked for.
That is the gap which alignment closes; without it there would be little to show. Needs torch 2.9 (for Muon).
"""

import copy
import itertools
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
STEPS, BATCH, LEARNING_RATE = 7000, 128, 2e-3
MUON = True
WARM_UP, TAIL = 200, 0.3  # steps of rising learning rate; share of the steps with falling learning rate
EMA_DECAY = 0.998
WRONG_CAPTIONS = 0.35  # share of captions with one wrong attribute, so that there is something to align
EMPTY_CAPTIONS = 0.05  # for classifier-free guidance


def build() -> nn.Module:
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
    return list(zip(specs, scenes, strict=True)), encode(vae, scenes)


@torch.no_grad()
def encode(vae: TinyVAE, scenes: list[Scene]) -> torch.Tensor:
    """Latents (scenes, 16, 8, 8) of their pictures."""
    latents = []
    for start in range(0, len(scenes), 100):
        pictures = data.pictures(scenes[start : start + 100]).float() / 255
        latents.append(vae.encode(pictures.contiguous(memory_format=torch.channels_last)))
    return torch.cat(latents).contiguous()


def _caption(spec: Spec, scene: Scene, wrong: float, rng: random.Random) -> str:
    """A fresh caption of a scene: wrong in one attribute with probability ``wrong``, empty now and then."""
    if rng.random() < EMPTY_CAPTIONS:
        return ""
    told = data.true_spec(spec, scene, rng)
    return shapes.write(data.wrong_spec(told, rng) if rng.random() < wrong else told)


def _parts(items: list[str], size: int) -> list[list[str]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


class Captions:
    """Every caption of the grammar, read once: the text encoder does not change any more."""

    def __init__(self, encoder: text.TextEncoder):
        captions = ["", *(shapes.write(spec) for specs in shapes.all_specs().values() for spec in specs)]
        self.rows = {caption: row for row, caption in enumerate(captions)}
        with torch.no_grad():
            read = [encoder(torch.tensor([text.tokens(c) for c in part])) for part in _parts(captions, 512)]
        self.context, self.pooled = (torch.cat(parts) for parts in zip(*read, strict=True))

    def __getitem__(self, captions: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """context (batch, 16, 128), pooled (batch, 128)."""
        rows = torch.tensor([self.rows[caption] for caption in captions])
        return self.context[rows], self.pooled[rows]


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
    each: Callable[[int, nn.Module], None] | None = None,
    start: nn.Module | None = None,
    sources: torch.Tensor | None = None,
) -> nn.Module:
    """Train from nothing, or from a model `start`, with a text encoder that can read; returns the averaged weights.

    sources: latents of the pictures that an edit model sees beside the noisy ones.

    each(step, averaged model) is called every 500 steps.
    """
    torch.manual_seed(seed)
    rng = random.Random(seed)
    captions = Captions(encoder)
    model = build() if start is None else start
    average = copy.deepcopy(model)
    optimizers = _optimizers(model)

    def pace(step: int) -> float:
        falling = max(0.0, (step - steps * (1 - TAIL)) / (steps * TAIL))
        return min(1, (step + 1) / WARM_UP) * (0.01 + 0.99 * (1 + math.cos(math.pi * falling)) / 2)

    schedules = [torch.optim.lr_scheduler.LambdaLR(optimizer, pace) for optimizer in optimizers]
    started, losses = time.monotonic(), []
    batches = _shuffled(len(latents), rng)
    for step in range(1, steps + 1):
        picked = next(batches)
        context, pooled = captions[[_caption(*shown[i], wrong, rng) for i in picked]]
        clean = latents[picked]
        noise = torch.randn_like(clean)
        sigma = sigmas(len(clean))
        level = sigma.view(-1, 1, 1, 1)
        seen = (1 - level) * clean + level * noise
        if sources is not None:
            seen = torch.cat([seen, sources[picked]], 1)
        with torch.autocast("cpu", torch.bfloat16):
            got = model(seen, sigma * 1000, context=context, y=pooled)
        loss = F.mse_loss(got.float(), noise - clean)
        model.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for stepper in (*optimizers, *schedules):
            stepper.step()
        losses.append(loss.detach())
        with torch.no_grad():
            decay = min(EMA_DECAY, step / (step + 10))
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
        if step % 100 == 0:
            log(
                f"denoiser step {step}/{steps} loss {torch.stack(losses).mean().item():.4f} "
                f"{time.monotonic() - started:.0f} s"
            )
            losses.clear()
        if each is not None and step % 500 == 0:
            each(step, average)
    return average


def _optimizers(model: nn.Module) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices, where it learns faster, AdamW for the rest."""
    matrices, rest = [], []
    for name, parameter in model.named_parameters():
        block = name.startswith("joint_blocks.") and "adaLN" not in name and parameter.ndim == 2
        (matrices if MUON and block else rest).append(parameter)
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(rest, LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    ]
    if matrices:
        optimizers.append(torch.optim.Muon(matrices, LEARNING_RATE, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"))
    return optimizers


def _shuffled(count: int, rng: random.Random) -> Iterator[list[int]]:
    """Endless batches of indices; every epoch in a new order."""
    while True:
        order = rng.sample(range(count), count)
        for start in range(0, count - BATCH + 1, BATCH):
            yield order[start : start + BATCH]


@torch.no_grad()
def sample(
    denoiser: nn.Module,
    encoder: text.TextEncoder,
    prompts: list[str],
    steps: int = 25,
    seed: int = 0,
    sources: torch.Tensor | None = None,
) -> torch.Tensor:
    """Euler from noise to latents (prompts, 16, 8, 8), at the noise levels of KSampler's euler / simple, cfg 1.

    sources: of an edit model, see train().
    """
    context, pooled = encoder(torch.tensor([text.tokens(prompt) for prompt in prompts]))
    u = torch.linspace(1, 0, steps + 1)
    levels = SHIFT * u / (1 + (SHIFT - 1) * u)
    latents = torch.randn(len(prompts), LATENT_CHANNELS, 8, 8, generator=torch.Generator().manual_seed(seed))
    for now, after in itertools.pairwise(levels):
        seen = latents if sources is None else torch.cat([latents, sources], 1)
        velocity = denoiser(seen, now.expand(len(prompts)) * 1000, context=context, y=pooled)
        latents = latents + (after - now) * velocity
    return latents
