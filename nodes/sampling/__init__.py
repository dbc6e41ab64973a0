"""The training's sampling as nodes."""

from __future__ import annotations

from . import group_sample, hybrid_guider, sampler, sigmas

NODES = [*sampler.NODES, *sigmas.NODES, *hybrid_guider.NODES, *group_sample.NODES]
