"""Stage 4: how often the model draws what is asked for, and a grid to look at."""

from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import nn

from mixgrpo_engine import shapes
from mixgrpo_engine.rewards.shapes import ShapesReward

from . import denoiser as denoising
from . import text
from .vae import TinyVAE

PROMPTS = 400


@torch.no_grad()
def images(
    vae: TinyVAE, encoder: text.TextEncoder, denoiser: nn.Module, prompts: list[str], steps: int, seed: int = 0
) -> torch.Tensor:
    """One image a prompt: (prompts, 64, 64, 3) in 0..1."""
    decoded = []
    for start in range(0, len(prompts), 50):
        latents = denoising.sample(denoiser, encoder, prompts[start : start + 50], steps, seed + start)
        decoded.append(vae.decode(latents).clamp(0, 1).movedim(1, -1))
    return torch.cat(decoded)


def measure(vae: TinyVAE, encoder: text.TextEncoder, denoiser: nn.Module, grid: Path, log=print) -> dict[str, float]:
    """Mean score and strict accuracy on held-out prompts at 25 and at 10 steps; writes the grid."""
    _, prompts = shapes.prompt_split(PROMPTS, PROMPTS, seed=0)
    reward, found = ShapesReward(), {}
    for steps in (25, 10):
        drawn = images(vae, encoder, denoiser, prompts, steps)
        score, strict = reward.score(drawn, prompts), reward.strict(drawn, prompts)
        found |= {f"score_{steps}": round(score.mean().item(), 3), f"strict_{steps}": round(strict.mean().item(), 3)}
        log(f"{steps} steps: mean score {score.mean():.3f}, strict accuracy {strict.mean():.3f}, {len(prompts)} images")
        if steps == 25:
            kinds = [shapes.parse(prompt).kind for prompt in prompts]
            for kind in shapes.KINDS:
                of_kind = torch.tensor([k == kind for k in kinds])
                log(f"    {kind}: strict {strict[of_kind].mean():.2f}")
            write_grid(drawn[:40], prompts[:40], strict[:40], grid)
    return found


def write_grid(drawn: torch.Tensor, prompts: list[str], strict: torch.Tensor, path: Path, columns: int = 5) -> None:
    """Images (batch, 64, 64, 3) with their prompts below them, green where right, as a PNG."""
    width, height = 330, 150
    rows = -(-len(prompts) // columns)
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    pen = ImageDraw.Draw(sheet)
    for i, prompt in enumerate(prompts):
        left, top = i % columns * width, i // columns * height
        picture = Image.fromarray((drawn[i] * 255).round().byte().numpy()).resize((128, 128), Image.Resampling.NEAREST)
        sheet.paste(picture, (left + 4, top + 4))
        words = prompt.split()
        lines = [" ".join(words[at : at + 4]) for at in range(0, len(words), 4)]
        pen.multiline_text((left + 138, top + 10), "\n".join(lines), fill="green" if strict[i] else "red")
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
