"""The reward nodes: each gives a scorer as MIXGRPO_REWARD."""

from __future__ import annotations

from . import http, jpeg, judge, neural, ocr, outside_mask, shapes
from .reward_type import REWARD

NODES = [
    *shapes.NODES,
    *neural.NODES,
    *judge.NODES,
    *ocr.NODES,
    *jpeg.NODES,
    *http.NODES,
    *outside_mask.NODES,
]

__all__ = ["NODES", "REWARD"]
