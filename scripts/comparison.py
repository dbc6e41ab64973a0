"""Base against LoRA on held-out prompts: sampled by ComfyUI's stock nodes, scored, compared prompt by prompt."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mixgrpo_engine.records.grid import BACKGROUND, labelled_grid
from mixgrpo_engine.rewards.comparison import paired
from mixgrpo_engine.rewards.shapes import ShapesReward
from scripts.comfyui_server import ComfyServer

FIRST_SEED = 1_000_000  # of the comparison's images: far from any training seed
PROMPTS_A_REQUEST = 16
SHOWN_PROMPTS = 12
SHOWN_IMAGES = 4


@dataclass(frozen=True)
class Setting:
    """What is sampled; prompt i has the seed FIRST_SEED + i with and without the LoRA."""

    prompts: Sequence[str]
    images: int
    steps: int
    cfg: float
    width: int
    height: int


def sample(server: ComfyServer, setting: Setting, lora: str | None) -> Tensor:
    """Images of all prompts through stock nodes: float (prompts, images, height, width, 3) in 0..1."""
    images = []
    for start in range(0, len(setting.prompts), PROMPTS_A_REQUEST):
        chosen = range(start, min(start + PROMPTS_A_REQUEST, len(setting.prompts)))
        outputs = server.run(graph(setting, chosen, lora))
        for index in chosen:
            images.append(torch.stack([decode(server.view(file)) for file in outputs[f"save{index}"]["images"]]))
    return torch.stack(images)


def graph(setting: Setting, chosen: Sequence[int], lora: str | None) -> dict:
    """An API prompt: the tiny model, the LoRA if any, then KSampler, VAEDecode and SaveImage for each prompt."""
    nodes = {
        "model": node("MixGRPO_TinyModel"),
        "latent": node("EmptySD3LatentImage", width=setting.width, height=setting.height, batch_size=setting.images),
        "empty": node("CLIPTextEncode", clip=["model", 1], text=""),
    }
    if lora:
        nodes["lora"] = node("LoraLoaderModelOnly", model=["model", 0], lora_name=lora, strength_model=1.0)
    for index in chosen:
        nodes[f"text{index}"] = node("CLIPTextEncode", clip=["model", 1], text=setting.prompts[index])
        nodes[f"sample{index}"] = node(
            "KSampler", model=["lora" if lora else "model", 0], seed=FIRST_SEED + index, steps=setting.steps,
            cfg=setting.cfg, sampler_name="euler", scheduler="simple", positive=[f"text{index}", 0],
            negative=["empty", 0], latent_image=["latent", 0], denoise=1.0,
        )  # fmt: skip
        nodes[f"decode{index}"] = node("VAEDecode", samples=[f"sample{index}", 0], vae=["model", 2])
        prefix = f"comparison/{'after' if lora else 'before'}"
        nodes[f"save{index}"] = node("SaveImage", images=[f"decode{index}", 0], filename_prefix=prefix)
    return nodes


def node(kind: str, **inputs) -> dict:
    return {"class_type": kind, "inputs": inputs}


def decode(png: bytes) -> Tensor:
    return torch.from_numpy(np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(np.float32) / 255)


def compare(setting: Setting, before: Tensor, after: Tensor) -> dict:
    """Mean reward and strict accuracy of both, and their paired differences over the prompts."""
    scores = {name: score(setting, images) for name, images in (("before", before), ("after", after))}
    report = {"held_out_prompts": len(setting.prompts), "images_each": len(setting.prompts) * setting.images}
    for place, measure in enumerate(("reward", "accuracy")):
        first, second = scores["before"][place], scores["after"][place]
        report[f"{measure}_before"], report[f"{measure}_after"] = float(first.mean()), float(second.mean())
        report[f"{measure}_difference"] = paired(second - first)
    report["headroom_won"] = (report["reward_after"] - report["reward_before"]) / (1 - report["reward_before"])
    return report


def score(setting: Setting, images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean reward and strict accuracy of each prompt's images: two tensors (prompts,)."""
    reward = ShapesReward()
    prompts = [prompt for prompt in setting.prompts for _ in range(setting.images)]
    flat = images.flatten(0, 1)
    shape = (len(setting.prompts), setting.images)
    return reward.score(flat, prompts).view(shape).mean(1), reward.strict(flat, prompts).view(shape).mean(1)


def draw(setting: Setting, before: Tensor, after: Tensor, folder: Path) -> None:
    """before.png and after.png (the same prompts and seeds), and overview.png with the reward curve below them."""
    prompts = min(SHOWN_PROMPTS, len(setting.prompts))
    count = min(SHOWN_IMAGES, setting.images)
    for name, images in (("before", before), ("after", after)):
        shown = images[:prompts, :count].flatten(0, 1)
        labels = [setting.prompts[i] for i in range(prompts) for _ in range(count)]
        title = f"{name}: held-out prompts"
        sheet = labelled_grid(shown, labels, columns=2 * count, cell=96, title=title, label_lines=4)
        sheet.save(folder / f"{name}.png")
    overview(folder).save(folder / "overview.png")


def overview(folder: Path) -> Image.Image:
    """before.png and after.png side by side, reward.png below: one picture of the whole demo."""
    before, after, curve = (Image.open(folder / f"{name}.png").convert("RGB") for name in ("before", "after", "reward"))
    gap = 12
    width = before.width + gap + after.width
    sheet = Image.new("RGB", (width, before.height + gap + curve.height), BACKGROUND)
    sheet.paste(before, (0, 0))
    sheet.paste(after, (before.width + gap, 0))
    sheet.paste(curve, ((width - curve.width) // 2, before.height + gap))
    return sheet


def show(report: dict) -> None:
    """Prints what changed, in two lines."""
    for measure, name in (("reward", "reward"), ("accuracy", "strictly right")):
        change = report[f"{measure}_difference"]
        print(
            f"demo: held-out {name:<14} {report[f'{measure}_before']:.3f} -> {report[f'{measure}_after']:.3f}   "
            f"difference {change['mean']:+.3f} (95% interval {change['low']:+.3f} to {change['high']:+.3f})"
        )
    print(
        f"demo: {report['headroom_won']:.0%} of the reward's headroom won by {report['iterations']} iterations in "
        f"{report['train_seconds']:.0f} s ({report['forwards']} image-forwards)"
    )
