"""Groups of the untrained model's images as a training would show them first, and what a taste sees of them."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mixgrpo_engine.rewards.taste import SHOWN
from mixgrpo_engine.taste.features import Features, PictureStatistics, PromptFit

from . import demo_model
from .comfyui import node_module
from .single_steps import SingleSteps
from .subject import Subject


@dataclass(frozen=True)
class Group:
    """Images of one prompt."""

    prompt: str
    images: Tensor  # (images, height, width, 3)
    features: Tensor  # (images, features)


def demo() -> Subject:
    """The demo, and the empty prompt encoded, too: a prompt's fit needs it."""
    subject = demo_model.load(own=True)
    tiny = node_module("tiny.tiny_model")
    clip = node_module("tiny.text_encoder").load_clip(tiny.TEXT_ENCODER)
    subject.encoded.conditionings.update(node_module("model.conditioning").encode_prompts(clip, [""]).conditionings)
    return subject


def sources(policy) -> list[Features]:
    """What MixGRPO Reward: Taste sees in a training without a CLIP."""
    return [PictureStatistics(), PromptFit(policy.base_velocity, policy.encode, policy.fingerprint())]


@torch.no_grad()
def groups(subject: Subject, seed: int, count: int, held_out: bool = False) -> list[Group]:
    """A training's first groups, of training prompts or of the held-out ones."""
    config = dataclasses.replace(subject.settings, run=dataclasses.replace(subject.settings.run, seed=seed))
    at_once = config.rollout.prompts_per_iteration
    prompts = (
        dataclasses.replace(subject.prompts, train=subject.prompts.held_out, held_out=())
        if held_out
        else subject.prompts
    )
    found: list[Group] = []
    with tempfile.TemporaryDirectory(prefix="mixgrpo-benchmark-") as folder:
        trainer = SingleSteps(subject, config, Path(folder) / "run")
        eyes = sources(trainer.policy)
        for iteration in range(-(-count // at_once)):
            shown = prompts.at(iteration, at_once, seed)
            trajectory = trainer.sampler.rollout(iteration, trainer.window.at(iteration), shown)
            images = trainer.policy.decode(trajectory.latents).unflatten(0, (at_once, -1))
            found += [
                Group(prompt, each, features_of(eyes, each, prompt)) for prompt, each in zip(shown, images, strict=True)
            ]
    return found[:count]


def shown_of(images: Tensor) -> Tensor:
    """The places that a sheet shows of a group."""
    return torch.linspace(0, len(images) - 1, SHOWN).round().long()


def features_of(eyes: Sequence[Features], images: Tensor, prompt: str) -> Tensor:
    return torch.cat([eye.of(images, [prompt] * len(images)) for eye in eyes], 1)
