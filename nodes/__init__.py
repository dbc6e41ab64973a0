"""The nodes, and what ComfyUI asks for when it loads the pack."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from . import algorithm, diffusers_model, items, prompts, rewards, run_files, runs, sampling, scoring, training
from .checked_inputs import checked
from .tiny import tiny_edit_model, tiny_edits, tiny_model
from .votes import learners, vote


class MixGRPOExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        runs.register()
        rooms = (
            tiny_model, tiny_edit_model, tiny_edits, diffusers_model, prompts, items, rewards, learners,
            algorithm, training, run_files, sampling, scoring, vote,
        )  # fmt: skip
        return [checked(node) for room in rooms for node in room.NODES]
