"""The algorithms that are compared: the presets of the pack, at the demo's sizes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from mixgrpo_engine.config import TrainConfig
from mixgrpo_engine.presets import preset

# What makes an algorithm. Everything else (steps, group, prompts, learning rate, ...) is the demo's for all of them.
ALGORITHM = {
    "rollout": ("transition", "eta", "shared_noise", "flash_ratio", "tail_order", "tail_variant"),
    "window": ("size", "trained_share", "strategy"),
    "loss": ("surrogate", "nft_beta", "old_decay", "old_decay_growth"),
}


@dataclass(frozen=True)
class Variant:
    """One algorithm."""

    name: str
    preset: str
    own_copies: bool = False  # every image runs the steps that its group shares for itself

    def settings(self, demo: TrainConfig) -> TrainConfig:
        """The demo's settings with this algorithm in them."""
        published = preset(self.preset)
        changed = {
            group: dataclasses.replace(
                getattr(demo, group), **{name: getattr(getattr(published, group), name) for name in names}
            )
            for group, names in ALGORITHM.items()
        }
        return dataclasses.replace(demo, **changed)


DANCE_GRPO = Variant("DanceGRPO", "DanceGRPO")
FLOW_GRPO = Variant("Flow-GRPO", "Flow-GRPO")
NFT = Variant("DiffusionNFT", "DiffusionNFT")
UNSHARED = Variant("MixGRPO, nothing shared", "MixGRPO", own_copies=True)
MIX_GRPO = Variant("MixGRPO", "MixGRPO")
FLASH = Variant("MixGRPO-Flash", "MixGRPO-Flash")
FLASH_STAR = Variant("MixGRPO-Flash*", "MixGRPO-Flash*")

# UNSHARED learns the very same as MixGRPO, so there is no reward of its own to measure.
COST = (DANCE_GRPO, FLOW_GRPO, NFT, UNSHARED, MIX_GRPO, FLASH, FLASH_STAR)
REWARD = (DANCE_GRPO, FLOW_GRPO, NFT, MIX_GRPO, FLASH, FLASH_STAR)
