"""`python -m benchmarks memory`: the memory estimate against measured bytes, and what real models need by it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from mixgrpo_engine.config import TrainConfig
from mixgrpo_engine.memory import estimate
from mixgrpo_engine.memory.cards import CARDS, Card
from mixgrpo_engine.prompts import PromptSet
from mixgrpo_engine.records.files import write_json

from . import full_size, machine
from .comfyui import import_comfyui, node_module
from .measured_bytes import measured_peak
from .model_call import model_call
from .subject import Subject

FILE = "memory.json"
PIXELS, RANK = 256, 16
IMAGES = (1, 2, 4, 8)


def run(folder: Path) -> Path:
    """Measures, estimates, and writes the figures into the folder."""
    import_comfyui()
    node_module("model.preflight")  # so that all of the pack is loaded by one name
    folder.mkdir(parents=True, exist_ok=True)
    figures = {"machine": machine.describe(), "measured": measure(), "cards": estimate_cards()}
    write_json(folder / FILE, figures)
    for row in figures["measured"]:
        print(
            f"checkpointing {row['gradient_checkpointing']!s:5} {row['images']} images: measured "
            f"{estimate.words(row['measured'])}, estimated {estimate.words(row['estimated'])} ({row['error']:+.1%})"
        )
    for name, row in figures["cards"].items():
        print(f"{name}: {row['sentence']}")
    return folder / FILE


def measure() -> list[dict]:
    """Peak bytes of an update on a middle-sized random model, by images a call, with and without checkpointing."""
    rows = []
    for checkpointing in (False, True):
        config = TrainConfig.from_dict(
            {
                "adapter": {"rank": RANK},
                "run": {"width": PIXELS, "height": PIXELS, "gradient_checkpointing": checkpointing},
            }
        )
        model, vae, encoded = full_size.middle_sized(), full_size.vae(), _encoded(full_size.middle_sized_prompt())
        subject = Subject(model, vae, encoded, PromptSet(("",), ()), config)
        needs, policy = subject.preflight().needs(config), subject.policy(config)
        model_call(policy, 1, gradient=True)()  # makes the gradients, which are counted with the adapter
        for images in IMAGES:
            measured, estimated = measured_peak(model_call(policy, images, gradient=True)), needs.update.of(images)
            rows.append(
                {
                    "gradient_checkpointing": checkpointing,
                    "images": images,
                    "measured": measured,
                    "estimated": estimated,
                    "error": estimated / measured - 1,
                }
            )
    return rows


def estimate_cards() -> dict[str, dict]:
    """What each card's settings need, by the estimate on the real architecture without data."""
    return {name: estimate_card(card) for name, card in CARDS.items()}


def estimate_card(card: Card) -> dict:
    preflight = node_module("model.preflight")
    encoded = _encoded(full_size.prompt_without_data(card.model))
    vae = full_size.published_vae(card.model)
    check = preflight.Preflight(full_size.without_data(card.model), vae, encoded, [""])

    def needs_of(config: TrainConfig) -> estimate.Needs:
        decoding = vae.bytes_for(config.run.width, config.run.height)
        return estimate.Needs(**{**vars(check.needs(config)), "vae": decoding})

    free = card.gigabytes * estimate.GB - CONTEXT
    config, needs = estimate.fitted(needs_of, free, card.config())
    made = estimate.plan(needs, free, config)
    return {
        # Without the list of blocks: what is left of the weights.
        "needs": dataclasses.asdict(dataclasses.replace(needs, weights=needs.resident, blocks=(), swapped=0)),
        "weights": needs.weights,
        "in_host": needs.in_host,
        "swapped_blocks": needs.swapped,
        "least": needs.least(),
        "fits": made.fits,
        "rollout_batch_size": made.rollout_batch or estimate.images_an_iteration(config),
        "update_batch_size": made.update_batch,
        "sentence": estimate.Report(needs, free, made, config).sentence(),
    }


CONTEXT = estimate.GB  # of a card's memory that its driver, torch and the desktop take


@torch.no_grad()
def _encoded(conditioning: list):
    return node_module("model.conditioning").Encoded({"": conditioning})
