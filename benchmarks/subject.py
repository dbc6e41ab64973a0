"""What a benchmark trains: a MODEL with its VAE, encoded prompts and settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mixgrpo_engine.config import TrainConfig
from mixgrpo_engine.prompts import PromptSet
from mixgrpo_engine.rewards import Reward

from .comfyui import node_module


@dataclass
class Subject:
    model: Any  # ComfyUI's MODEL; it stays as it is, each policy trains a copy
    vae: Any
    encoded: Any
    prompts: PromptSet
    settings: TrainConfig
    reward: Reward | None = None  # that its cost is measured with; the demo's judge when None

    def preflight(self):
        """The memory estimate for this model and these prompts."""
        prompts = [*self.prompts.train, *self.prompts.held_out]
        return node_module("model.preflight").Preflight(self.model, self.vae, self.encoded, prompts)

    def planned(self, config: TrainConfig) -> TrainConfig:
        """The settings with the batch sizes that a worker would take."""
        planned, _ = node_module("model.preflight").plan(self.preflight(), config)
        return TrainConfig.from_dict(planned.as_dict())

    def policy(self, config: TrainConfig):
        """A new ComfyPolicy with an untrained LoRA."""
        return node_module("model.policy").ComfyPolicy(
            self.model,
            self.vae,
            self.encoded,
            width=config.run.width,
            height=config.run.height,
            cfg=config.rollout.cfg,
            adapter=config.adapter,
            seed=config.run.seed,
            gradient_checkpointing=config.run.gradient_checkpointing,
            swapped_blocks=max(0, config.run.swapped_blocks),
        )
