"""Stage 1: the VAE, a thin TAESD that pads with zeros to the stock one.

ComfyUI loads a TAESD from one file, but only with 64 channels everywhere and a fixed number of blocks. A thinner and
shallower net is the same function once it is padded: a channel of zeros stays zero, and a block of zeros is a ReLU.
The layers here sit at the indices of the stock net, so the keys are the same and padding is copying into a corner.
"""

import copy
import math
import random
import time

import torch
from torch import nn
from torch.nn import functional as F

from . import data

LATENT_CHANNELS = 16
SCALE, SHIFT = 1.5305, 0.0609  # of the SD3 latent format
WIDTHS = (16, 32, 48, 64)  # channels at 64, 32, 16 and 8 pixels (for a picture of 64 pixels)
ENCODER_BLOCKS = (0, 1, 1, 2)
DECODER_BLOCKS = (1, 1, 2, 3)
STOCK_ENCODER_BLOCKS = (1, 3, 3, 3)
STOCK_DECODER_BLOCKS = (1, 3, 3, 3)
LATENT_NOISE = 0.4

STEPS, BATCH, LEARNING_RATE = 2600, 16, 2e-3
SHARPEN_STEPS, SHARPEN_LEARNING_RATE = 1300, 1e-3


class Clamp(nn.Module):
    """Keeps latents softly within -3..3."""

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return torch.tanh(latents / 3) * 3


class Block(nn.Module):
    """Three convolutions with a residual connection."""

    def __init__(self, width: int):
        super().__init__()
        conv = [nn.Conv2d(width, width, 3, padding=1) for _ in range(3)]
        self.conv = nn.Sequential(conv[0], nn.ReLU(), conv[1], nn.ReLU(), conv[2])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.conv(x) + x)


def _blocks(width: int, count: int, stock: int) -> list[nn.Module]:
    return [Block(width) if i < count else nn.ReLU() for i in range(stock)]


class TinyVAE(nn.Module):
    """encode: pictures (batch, 3, h, w) in 0..1 -> latents (batch, 16, h/8, w/8); decode: the way back."""

    def __init__(self):
        super().__init__()
        encoder: list[nn.Module] = [nn.Conv2d(3, WIDTHS[0], 3, padding=1)]
        for level, width in enumerate(WIDTHS):
            if level:
                encoder.append(nn.Conv2d(WIDTHS[level - 1], width, 3, padding=1, stride=2, bias=False))
            encoder += _blocks(width, ENCODER_BLOCKS[level], STOCK_ENCODER_BLOCKS[level])
        encoder.append(nn.Conv2d(WIDTHS[-1], LATENT_CHANNELS, 3, padding=1))

        decoder: list[nn.Module] = [Clamp(), nn.Conv2d(LATENT_CHANNELS, WIDTHS[-1], 3, padding=1), nn.ReLU()]
        for level in (3, 2, 1, 0):
            decoder += _blocks(WIDTHS[level], DECODER_BLOCKS[level], STOCK_DECODER_BLOCKS[level])
            if level:
                decoder.append(nn.Upsample(scale_factor=2))
                decoder.append(nn.Conv2d(WIDTHS[level], WIDTHS[level - 1], 3, padding=1, bias=False))
        decoder.append(nn.Conv2d(WIDTHS[0], 3, 3, padding=1))

        self.taesd_encoder = nn.Sequential(*encoder)
        self.taesd_decoder = nn.Sequential(*decoder)

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.taesd_encoder(pictures)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return self.taesd_decoder(latents)

    def asset(self) -> dict[str, torch.Tensor]:
        """The state dict to ship: fp16, and the scale and shift that ComfyUI's TAESD reads."""
        weights = {key: value.half().contiguous() for key, value in self.state_dict().items()}
        return weights | {"vae_scale": torch.tensor(SCALE), "vae_shift": torch.tensor(SHIFT)}


def shipped() -> TinyVAE:
    """The finished one."""
    from safetensors.torch import load_file

    from . import assets

    weights, model = load_file(assets.FOLDER / "tiny_vae.safetensors"), TinyVAE()
    model.load_state_dict({name: each.float() for name, each in weights.items() if not name.startswith("vae_")})
    return model


def decibels(model: TinyVAE, pictures: torch.Tensor) -> float:
    """Peak signal-to-noise ratio of reconstructions of uint8 pictures (batch, 3, h, w), in dB."""
    with torch.no_grad():
        wanted = pictures.float() / 255
        error = F.mse_loss(model.decode(model.encode(wanted)).clamp(0, 1), wanted)
    return -10 * math.log10(error.item())


def _batch(rng: random.Random, size: int) -> torch.Tensor:
    """Pictures for the VAE: mostly of the grammar, some free ones. uint8 (size, 3, 64, 64)."""
    scenes = [
        data.free_scene(rng) if rng.random() < 0.4 else data.shapes.layout(data.random_spec(rng), rng)
        for _ in range(size)
    ]
    return data.pictures(scenes)


def train(seed: int = 0, steps: int = STEPS, log=print) -> TinyVAE:
    """Train from nothing; returns the averaged weights.

    The decoder sees latents with some noise: a denoiser's latents are never exact, and so the edges stay clean.
    The penalty keeps every latent channel near mean 0 and variance 1, which is what diffusion likes.
    """

    def loss(model: TinyVAE, wanted: torch.Tensor) -> torch.Tensor:
        latents = model.encode(wanted)
        difference = model.decode(_disturbed(latents, LATENT_NOISE)) - wanted
        variance, mean = torch.var_mean(latents, dim=(0, 2, 3))
        penalty = (variance - 1).square().mean() + mean.square().mean()
        return difference.abs().mean() + 4 * difference.square().mean() + 0.01 * penalty

    torch.manual_seed(seed)
    model = TinyVAE().to(memory_format=torch.channels_last)
    return _optimize(model, list(model.parameters()), loss, steps, LEARNING_RATE, seed, log)


def sharpen(model: TinyVAE, seed: int = 1, steps: int = SHARPEN_STEPS, log=print) -> TinyVAE:
    """Train the decoder alone for clean edges and corners. Latents stay what they are, so the denoiser still fits."""

    def loss(model: TinyVAE, wanted: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            latents = _disturbed(model.encode(wanted), LATENT_NOISE / 2)
            contrast = F.max_pool2d(wanted, 3, 1, 1) + F.max_pool2d(-wanted, 3, 1, 1)
            weight = 1 + 3 * contrast.amax(dim=1, keepdim=True)
        difference = model.decode(latents) - wanted
        return (weight * (difference.abs() + 4 * difference.square())).mean()

    torch.manual_seed(seed)
    decoder = list(model.taesd_decoder.parameters())
    return _optimize(model, decoder, loss, steps, SHARPEN_LEARNING_RATE, seed, log)


def _disturbed(latents: torch.Tensor, most: float) -> torch.Tensor:
    strength = most * torch.rand(len(latents), 1, 1, 1)
    return latents + strength * torch.randn_like(latents)


def _optimize(
    model: TinyVAE, parameters: list[nn.Parameter], loss_of, steps: int, rate: float, seed: int, log
) -> TinyVAE:
    rng = random.Random(seed)
    test = data.pictures([data.shapes.layout(data.random_spec(rng), rng) for _ in range(64)])
    average = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(parameters, rate, betas=(0.9, 0.98), weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / 100) * (0.01 + 0.99 * (1 + math.cos(math.pi * step / steps)) / 2)
    )
    started = time.monotonic()
    for step in range(1, steps + 1):
        wanted = (_batch(rng, BATCH).float() / 255).contiguous(memory_format=torch.channels_last)
        loss = loss_of(model, wanted)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            decay = min(0.995, step / (step + 10))
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
        if step % 100 == 0:
            log(
                f"vae step {step}/{steps} loss {loss.item():.4f} {decibels(average, test):.1f} dB "
                f"{time.monotonic() - started:.0f} s"
            )
    return average
