"""The reward nodes: each gives a scorer as MIXGRPO_REWARD."""

from __future__ import annotations

from . import neural, shapes
from .reward_type import REWARD

NODES = [*shapes.NODES, *neural.NODES]

__all__ = ["NODES", "REWARD"]
