"""The nodes, and what ComfyUI asks for when it loads the pack."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from . import algorithm, prompts, rewards, runs, tiny, training


class MixGRPOExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        runs.register()
        return [*tiny.NODES, *prompts.NODES, *rewards.NODES, *algorithm.NODES, *training.NODES]
