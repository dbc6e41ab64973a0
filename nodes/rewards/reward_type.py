"""The wire that carries a scorer from node to node."""

from __future__ import annotations

from comfy_api.latest import io

REWARD = io.Custom("MIXGRPO_REWARD")
"""An object with `name` and `score(images, prompts)`: see mixgrpo_engine.rewards.Reward."""
