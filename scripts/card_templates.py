"""Writes the twins of the settings for cards: `python -m scripts.card_templates`, then scripts.make_template.

mixgrpo_engine/memory/cards.py says what is trained and how; from it come workflows/api/NAME.json and
workflows/layout/NAME.json of every card. Which nodes load a model from which files stands here.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass

from mixgrpo_engine.config import SETTINGS, TrainConfig
from mixgrpo_engine.memory.cards import CARDS, Card
from mixgrpo_engine.presets import preset
from mixgrpo_engine.records.files import read_json
from mixgrpo_engine.rewards.files import catalog
from scripts import card_layout, card_notes
from scripts import model_files as files
from scripts.comfyui_server import ROOT
from scripts.model_files import ModelFile

PROMPTS = ROOT / "scripts" / "template_prompts.txt"
HELD_OUT = 8
SHOWN_PROMPT = "a blue teapot to the right of three white cups on a kitchen table"  # none of those that are trained
ESTIMATES = ROOT / "benchmarks" / "results" / "memory.json"
SAMPLED = 4  # images before and after


@dataclass(frozen=True)
class Source:
    """A model's loaders, as nodes 1 to 3, with their outputs, and what a person has to know of them."""

    loaders: dict[str, dict]
    model: list
    clip: list
    vae: list
    files: tuple[ModelFile, ...]
    steps: int  # of the samples before and after
    smaller: str  # what makes its memory smaller, one line
    remark: str = ""  # what else is special
    latents: str = "EmptySD3LatentImage"  # node that the samples begin with


def checkpoint(file: ModelFile) -> dict:
    return node("CheckpointLoaderSimple", "Model file", ckpt_name=file.name)


def flux_in_parts(_: TrainConfig) -> Source:
    return Source(
        loaders={
            "1": node("UNETLoader", "FLUX.1-dev", unet_name=files.FLUX_DEV.name, weight_dtype="default"),
            "2": node(
                "DualCLIPLoader", "Text encoders", clip_name1=files.CLIP_L.name, clip_name2=files.T5_FP16.name,
                type="flux", device="default",
            ),
            "3": node("VAELoader", "VAE", vae_name=files.FLUX_VAE.name),
        },
        model=["1", 0], clip=["2", 0], vae=["3", 0],
        files=(files.FLUX_DEV, files.CLIP_L, files.T5_FP16, files.FLUX_VAE),
        steps=25,
        smaller="**weight_dtype** *fp8_e4m3fn* of the model's loader halves the weights (11 GB less)",
    )  # fmt: skip


def flux_in_one_file(_: TrainConfig) -> Source:
    return Source(
        loaders={"1": checkpoint(files.FLUX_DEV_FP8)},
        model=["1", 0], clip=["1", 1], vae=["1", 2],
        files=(files.FLUX_DEV_FP8,),
        steps=25,
        smaller="**targets** *attn* of the LoRA: fewer layers get an adapter",
        remark="ComfyUI rounds a LoRA to fp8 when it puts it onto fp8 weights, and a small LoRA loses by it: sample "
        "with `flux1-dev.safetensors` in bf16 where you can.",
    )  # fmt: skip


def sd35_medium(_: TrainConfig) -> Source:
    return Source(
        loaders={
            "1": checkpoint(files.SD35_MEDIUM),
            "2": node(
                "TripleCLIPLoader", "Text encoders", clip_name1=files.CLIP_L.name, clip_name2=files.CLIP_G.name,
                clip_name3=files.T5_FP8.name,
            ),
        },
        model=["1", 0], clip=["2", 0], vae=["1", 2],
        files=(files.SD35_MEDIUM, files.CLIP_L, files.CLIP_G, files.T5_FP8),
        steps=28,
        smaller="**targets** *attn* of the LoRA: fewer layers get an adapter",
    )  # fmt: skip


def sd35_folder(config: TrainConfig) -> Source:
    run = config.run
    return Source(
        loaders={
            "1": node(
                "MixGRPO_DiffusersModel", "Model folder", folder=SD35_FOLDER, transformer="the folder's own",
                width=run.width, height=run.height,
            )
        },
        model=["1", 0], clip=["1", 1], vae=["1", 2],
        files=(),
        steps=28,
        smaller="the folder's T5 is in half precision, 9.8 GB while the prompts are encoded: the template "
        "*Train SD3.5 medium on 16 GB* takes one of half that size",
    )  # fmt: skip


def in_parts(
    title: str, kind: str, parts: tuple[ModelFile, ModelFile, ModelFile], steps: int, **more: str
) -> Callable[[TrainConfig], Source]:
    """A model whose network, text encoder and VAE are three files. kind: of CLIPLoader. more: further fields."""
    network, encoder, vae = parts

    def source(_: TrainConfig) -> Source:
        return Source(
            loaders={
                "1": node("UNETLoader", title, unet_name=network.name, weight_dtype="default"),
                "2": node("CLIPLoader", "Text encoder", clip_name=encoder.name, type=kind, device="default"),
                "3": node("VAELoader", "VAE", vae_name=vae.name),
            },
            model=["1", 0], clip=["2", 0], vae=["3", 0],
            files=parts,
            steps=steps,
            **{"smaller": HALF, **more},
        )  # fmt: skip

    return source


HALF = "**weight_dtype** *fp8_e4m3fn* of the model's loader halves the weights"
IN_FP8 = "**swapped_blocks** of Train: more of them stay in the computer's memory"
SD35_FOLDER = "stable-diffusion-3.5-medium"
SOURCES: dict[str, Callable[[TrainConfig], Source]] = {
    "sd35_medium_8gb": sd35_medium,
    "sd35_medium_16gb": sd35_medium,
    "flux_dev_12gb": flux_in_one_file,
    "flux_dev_fp8_24gb": flux_in_one_file,
    "flux_dev_48gb": flux_in_parts,
    "flux_dev_80gb": flux_in_parts,
    "z_image_16gb": in_parts("Z-Image", "lumina2", (files.Z_IMAGE, files.QWEN3_4B, files.FLUX_VAE), 25),
    "qwen_image_24gb": in_parts(
        "Qwen-Image", "qwen_image", (files.QWEN_IMAGE, files.QWEN_VL, files.QWEN_VAE), 20, smaller=IN_FP8,
        remark="It is trained and sampled without guidance (cfg 1), as the authors of MixGRPO do it: half the time.",
    ),
    "flux2_klein_12gb": in_parts(
        "FLUX.2 klein", "flux2", (files.KLEIN_4B, files.QWEN3_4B, files.FLUX2_VAE), 20, smaller=IN_FP8,
        remark="It needs a ComfyUI of January 2026 or newer: 0.3.75 knows FLUX.2 dev, but not klein.",
        latents="EmptyFlux2LatentImage",
    ),
    "chroma_16gb": in_parts(
        "Chroma1-HD", "chroma", (files.CHROMA, files.T5_FP8, files.FLUX_VAE), 25, smaller=IN_FP8,
        remark="No such training of Chroma is published: the settings are those of SD3.5, with Chroma's guidance.",
    ),
    "wan22_5b_24gb": in_parts(
        "Wan 2.2 5B", "wan", (files.WAN22_5B, files.UMT5, files.WAN22_VAE), 20,
        remark="It learns from videos of 5 frames: a video's score is the mean over its frames, and says nothing of "
        "how it moves.",
        latents="Wan22ImageToVideoLatent",
    ),
    "diffusers_folder": sd35_folder,
}  # fmt: skip
"""Template -> its loaders."""

CARD_OF = {"diffusers_folder": "sd35_medium_16gb"}
"""Templates that are no card's own, and the template of the card whose settings they have."""


def main() -> None:
    for name in SOURCES:
        for kind, content in (("api", prompt(name)), ("layout", layout(name))):
            path = ROOT / "workflows" / kind / f"{name}.json"
            path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            print(path.relative_to(ROOT))


def card_of(name: str) -> tuple[str, Card]:
    """The entry of CARDS that a template stands for."""
    return next((key, card) for key, card in CARDS.items() if card.template == CARD_OF.get(name, name))


def prompt(name: str) -> dict[str, dict]:
    """The API prompt of a template."""
    _, card = card_of(name)
    config = card.config()
    source = SOURCES[name](config)
    # The card's LoRA is LoRA's (10): the algorithm's own stays its preset's.
    own = dataclasses.replace(config, adapter=preset(card.preset).adapter)
    return {
        **source.loaders,
        "4": node(
            "MixGRPO_Prompts", "Prompts", text=PROMPTS.read_text(encoding="utf-8").strip(), file="none",
            held_out=HELD_OUT, split_seed=0,
        ),
        **rewards(),
        # As the frontend shows it: a preset with other values is none.
        "9": node(
            "MixGRPO_Algorithm", "Algorithm", preset=card.preset if own_preset(card) else "custom", **algorithm(own)
        ),
        "10": node("MixGRPO_LoRA", "LoRA to train", **adapter(config)),
        "11": node(
            "MixGRPO_Train", "Train", model=source.model, clip=source.clip, vae=source.vae, reward=["7", 0],
            prompts=["4", 0], algorithm=["9", 0], run_name=name.replace("_", "-"), **group(config, "run"), mode="wait",
            if_exists="reuse", lora=["10", 0], watch=["8", 0],
        ),
        "12": node("MixGRPO_Wait", "Wait for the training", run=["11", 0], run_id="", timeout=0),
        "13": node(
            "MixGRPO_ApplyRun", "After the training", model=source.model, run=["12", 0], run_id="", strength=1.0,
            which="last", clip=source.clip, vae=source.vae,
        ),
        **samples(config, source, name),
    }  # fmt: skip


def own_preset(card: Card) -> bool:
    """Whether the algorithm's settings are the preset's, all of them."""
    return not card.settings.keys() - {"run", "adapter"}


def rewards() -> dict[str, dict]:
    shared = {"device": "default", "dtype": "auto", "batch_size": 16, "keep_loaded": False}
    return {
        "5": node("MixGRPO_RewardHPS", "What people prefer: HPS v2.1", weights=catalog.HPS.name, **shared),
        "6": node(
            "MixGRPO_RewardCLIPScore", "What fits the prompt: CLIPScore", weights=catalog.CLIP_L.name,
            text_weights="none", activation="auto", **shared,
        ),
        "7": node(
            "MixGRPO_RewardMix", "Both, to be learned from", **{f"weight_{number}": 1.0 for number in range(1, 7)},
            normalisation="none", reward_1=["5", 0], reward_2=["6", 0],
        ),
        "8": node(
            "MixGRPO_RewardImageReward", "Only watched: ImageReward", weights=catalog.IMAGE_REWARD.name,
            vocab=catalog.BERT_VOCAB.name, **shared,
        ),
    }  # fmt: skip


def algorithm(config: TrainConfig) -> dict:
    """The values of MixGRPO_Algorithm's widgets."""
    own = sorted((each for each in SETTINGS if each.place), key=lambda each: each.place)
    return {each.label: each.of(config) for each in own}


def group(config: TrainConfig, name: str) -> dict:
    """The values of one group's settings, by the names of their widgets."""
    return {each.label: each.of(config) for each in SETTINGS if each.group == name}


def adapter(config: TrainConfig) -> dict:
    """The values of MixGRPO_LoRA's widgets: a node trains nothing but LoRAs."""
    values = {name: value for name, value in config.as_dict()["adapter"].items() if name != "kind"}
    return values | {"start_from": "none"}


def samples(config: TrainConfig, source: Source, name: str) -> dict[str, dict]:
    """The same noises through the base model and the tuned one, all of it behind Apply Run (13)."""
    tuned, base, clip, vae = (["13", output] for output in (0, 2, 3, 4))
    shared = {
        "seed": 42, "steps": source.steps, "cfg": config.rollout.cfg, "sampler_name": "euler", "scheduler": "simple",
        "positive": ["14", 0], "negative": ["15", 0], "latent_image": ["16", 0], "denoise": 1.0,
    }  # fmt: skip
    unused = "" if config.rollout.cfg != 1 else " (unused at cfg 1)"
    return {
        "14": node("CLIPTextEncode", "Prompt", clip=clip, text=SHOWN_PROMPT),
        "15": node("CLIPTextEncode", f"Negative prompt{unused}", clip=clip, text=config.run.negative_prompt),
        "16": latents(config, source.latents, vae),
        "17": node("KSampler", "Sample before", model=base, **shared),
        "18": node("KSampler", "Sample after", model=tuned, **shared),
        "19": node("VAEDecode", "Decode before", samples=["17", 0], vae=vae),
        "20": node("VAEDecode", "Decode after", samples=["18", 0], vae=vae),
        "21": node("SaveImage", "Before", images=["19", 0], filename_prefix=f"mixgrpo/{name}_before"),
        "22": node("SaveImage", "After", images=["20", 0], filename_prefix=f"mixgrpo/{name}_after"),
    }


def latents(config: TrainConfig, kind: str, vae: list) -> dict:
    size = {"width": config.run.width, "height": config.run.height}
    if config.run.frames == 1:
        return node(kind, "Images of the training's size", **size, batch_size=SAMPLED)
    return node(kind, "A video of the training's size", vae=vae, **size, length=config.run.frames, batch_size=1)


def layout(name: str) -> dict:
    """How the nodes stand, and the notes beside them."""
    key, card = card_of(name)
    source = SOURCES[name](card.config())
    folder = SD35_FOLDER if SD35_FOLDER in source.loaders["1"]["inputs"].values() else ""
    estimated = read_json(ESTIMATES)["cards"][key]
    changed = "" if own_preset(card) else ", changed for this model"
    what_it_does = card_notes.what_it_does(
        key.split(",")[0], card, card.preset + changed, estimated, source.smaller, source.remark
    )
    return card_layout.layout(source.loaders, what_it_does, card_notes.where_files_go(source.files, folder))


def node(class_type: str, title: str, **inputs) -> dict:
    return {"class_type": class_type, "inputs": inputs, "_meta": {"title": title}}


if __name__ == "__main__":
    main()
