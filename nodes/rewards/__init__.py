"""The reward nodes: each gives a scorer as MIXGRPO_REWARD."""

from __future__ import annotations

from . import jpeg, judge, neural, ocr, shapes
from .reward_type import REWARD

NODES = [
    *shapes.NODES,
    *neural.NODES,
    *judge.NODES,
    *ocr.NODES,
    *jpeg.NODES,
]

__all__ = ["NODES", "REWARD"]
