"""The nodes, and what ComfyUI asks for when it loads the pack."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from . import algorithm, diffusers_model, prompts, rewards, runs, scoring, training
from .sampling import group_sample, sampling_nodes
from .tiny import tiny_model


class MixGRPOExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        runs.register()
        rooms = (
            tiny_model, diffusers_model, prompts, rewards, algorithm, training, sampling_nodes, group_sample, scoring,
        )  # fmt: skip
        return [node for room in rooms for node in room.NODES]
