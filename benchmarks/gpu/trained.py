"""What the sections train: models of full size with random weights, published settings, trainers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from mixgrpo_engine.config import TrainConfig
from mixgrpo_engine.prompts import PromptSet
from mixgrpo_engine.records.events import Iteration, Notice

from .. import full_size
from ..comfyui import node_module
from ..cost import LEARNING_RATE, Brightness
from ..single_steps import SingleSteps
from ..subject import Subject
from ..variants import MIX_GRPO, Variant
from .check import Check

PROMPTS = ("a red circle", "a blue square")


def settings(check: Check, pixels: int = 512, variant: Variant = MIX_GRPO, **groups: dict) -> TrainConfig:
    """An algorithm at the paper's sizes (small: at small ones), with checkpointing; groups: what differs.

    The window moves with each iteration. Nothing is learned, evaluated or shown.
    """
    steps, group, window, rank, side = (6, 4, 2, 4, 32) if check.small else (25, 12, 4, 32, pixels)
    values = {
        "rollout": {"steps": steps, "group_size": group, "prompts_per_iteration": 1, "shift": 3.0},
        "optimizer": {"learning_rate": LEARNING_RATE},
        "adapter": {"rank": rank},
        "run": {
            "width": side, "height": side, "gradient_checkpointing": True, "evaluate_every": 0, "sample_every": 0
        },
    }  # fmt: skip
    config = variant.settings(TrainConfig.from_dict(values))
    size = min(config.window.size, window)
    config = dataclasses.replace(config, window=dataclasses.replace(config.window, size=size, interval=1))
    changed = {name: dataclasses.replace(getattr(config, name), **given) for name, given in groups.items()}
    return dataclasses.replace(config, **changed)


def subject(check: Check, name: str = "sd3.5_medium bf16", offload: torch.device | None = None) -> Subject:
    """A model of full_size on the check's device; offload: where it waits until it is used."""
    encoded = {prompt: full_size.random_prompt(name, seed, check.small) for seed, prompt in enumerate(("", *PROMPTS))}
    return Subject(
        full_size.random_weights(name, check.device, offload, check.small),
        full_size.vae(),
        node_module("model.conditioning").Encoded(encoded),
        PromptSet(PROMPTS, ()),
        settings(check),
    )


def trainer(check: Check, subject: Subject, config: TrainConfig, folder: Path | None = None) -> SingleSteps:
    """folder: of the run, a new one when None."""
    return SingleSteps(subject, config, folder or check.folder(), Brightness())


def step(trainer: SingleSteps) -> tuple[Iteration, float]:
    """The next iteration and its seconds. Raises RuntimeError where it hasn't learned."""
    event, seconds = trainer.timed_step()
    if event.updates != trainer.config.optimizer.updates:
        raise RuntimeError(f"{event.updates} of {trainer.config.optimizer.updates} updates: {notices(trainer)}")
    return event, seconds


def notices(trainer: SingleSteps) -> list[str]:
    return [event.message for event in trainer.events if isinstance(event, Notice)]


@torch.no_grad()
def stir(policy, size: float = 0.02) -> None:
    """Moves the adapter away from its start, where it does nothing; by the same values in every dtype."""
    generator = torch.Generator().manual_seed(7)
    for tensor in policy.adapter_state().values():
        tensor += (size * torch.randn(tensor.shape, generator=generator)).to(tensor)


def gradient(policy) -> Tensor:
    """All gradients of the adapter that there are, in float32 on the CPU: (values,)."""
    gradients = [tensor.grad for tensor in policy.adapter_state().values()]
    return torch.cat([each.float().flatten().cpu() for each in gradients if each is not None])


def difference(one: Tensor, other: Tensor) -> float:
    """Relative to the second."""
    return float((one - other).norm() / other.norm())
