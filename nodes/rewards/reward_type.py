"""The wire that carries a scorer from node to node."""

from __future__ import annotations

from comfy_api.latest import io

from ..category import CATEGORY

REWARD = io.Custom("MIXGRPO_REWARD")
"""An object with `name` and `score(images, prompts)`: see mixgrpo_engine.rewards.Reward."""

REWARDS = f"{CATEGORY}/rewards"
"""The category of the nodes that give one."""
