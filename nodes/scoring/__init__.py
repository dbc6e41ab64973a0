"""Rewards in any graph: score images, pick the best, mix rewards, compare two models, save scores with the images."""

from __future__ import annotations

from . import evaluate, pick_best, reward_mix, save_scored, score

NODES = [*reward_mix.NODES, *score.NODES, *pick_best.NODES, *save_scored.NODES, *evaluate.NODES]
