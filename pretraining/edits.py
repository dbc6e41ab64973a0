"""The tiny edit model: `python -m pretraining.edits`, about 10 minutes on one idle core, from the shipped files.

The denoiser's input gets as many channels again, for the latents of a picture; their weights begin at zero. It learns
to draw what a caption says with all else as in the picture: a shape, a colour or the background changes. As in the text
model's pretraining some captions are wrong, so that there is something to align.
"""

import argparse
import random
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from mixgrpo_engine import shape_edits, shapes
from mixgrpo_engine.rewards.shapes import ShapesReward

from . import assets, data, denoiser, text, vae

PAIRS, STEPS = 12_000, 3000
FILE = "tiny_edit_denoiser.safetensors"


def widened() -> nn.Module:
    """The shipped denoiser, which doesn't see the picture yet."""
    model = _shipped(denoiser.build(), "tiny_denoiser.safetensors")
    old = model.x_embedder.proj
    new = nn.Conv2d(2 * denoiser.LATENT_CHANNELS, old.out_channels, old.kernel_size, old.stride)
    with torch.no_grad():
        new.weight.zero_()[:, : denoiser.LATENT_CHANNELS] = old.weight
        new.bias.copy_(old.bias)
    model.x_embedder.proj = new
    return model


@torch.no_grad()
def measured(model: nn.Module, coder: vae.TinyVAE, encoder: text.TextEncoder, count: int = 200) -> str:
    """Of examples of another seed: how well captions are followed, and how far images are from their own pictures and
    from others (mean difference of a channel)."""
    pictures, prompts = zip(*shape_edits.examples(count, seed=1_000_003), strict=True)
    before = torch.stack([torch.from_numpy(np.array(each)) for each in pictures]).float() / 255
    latents = denoiser.sample(model, encoder, list(prompts), sources=coder.encode(before.movedim(-1, 1)))
    images = coder.decode(latents).clamp(0, 1).movedim(1, -1)
    reward = ShapesReward()
    score, strict = reward.score(images, prompts).mean(), reward.strict(images, prompts).mean()
    own, other = ((images - each).abs().mean() for each in (before, before.roll(1, 0)))
    return f"mean score {score:.3f}, strictly right {strict:.3f}, from its picture {own:.3f}, from another {other:.3f}"


def _shipped(model: nn.Module, file: str) -> nn.Module:
    model.load_state_dict({name: each.float() for name, each in load_file(assets.FOLDER / file).items()})
    return model


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pretraining.edits", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=assets.FOLDER / FILE)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    coder, encoder = vae.shipped(), _shipped(text.TextEncoder(), "tiny_text_encoder.safetensors")
    before, after = [], []
    for _ in range(options.pairs):
        spec = data.random_spec(rng)
        scene = shapes.layout(spec, rng)
        before.append((spec, scene))
        after.append(shape_edits.edited(spec, scene, rng))
    sources, targets = (denoiser.encode(coder, [scene for _, scene in each]) for each in (before, after))
    model = denoiser.train(encoder, after, targets, options.seed, options.steps, start=widened(), sources=sources)
    architecture = "SD3 MMDiT, depth 2, with a picture's latents"
    about = {"license": "Apache-2.0", "architecture": architecture, "seed": str(options.seed)}
    save_file({name: each.half().contiguous() for name, each in model.state_dict().items()}, options.out, about)
    print(f"wrote {options.out}: {measured(model, coder, encoder)}")


if __name__ == "__main__":
    main()
