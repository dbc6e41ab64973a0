"""MixGRPO_TinyEdits: pictures and what they are to become, for the tiny edit model."""

from __future__ import annotations

import numpy as np
import torch
from comfy_api.latest import io

from ...mixgrpo_engine import shape_edits
from ..category import CATEGORY


class MixGRPOTinyEdits(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_TinyEdits",
            display_name="MixGRPO Tiny Edits",
            category=CATEGORY,
            description="Draws pictures of shapes at 64x64 pixels, and writes what each is to become: another colour, "
            "shape or background. For MixGRPO Prompts, to try a training on items with the tiny edit model.",
            inputs=[
                io.Int.Input("count", default=80, min=1, max=1000, tooltip="How many pictures, each with its prompt."),
                io.Int.Input(
                    "seed", default=0, min=0, max=2**31 - 1, control_after_generate=False,
                    tooltip="The same number always gives the same ones.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="images", is_output_list=True, tooltip="For images of MixGRPO Prompts: one an item."
                ),
                io.String.Output(
                    display_name="prompts", is_output_list=True, tooltip="For text of MixGRPO Prompts: one an image."
                ),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, count: int, seed: int) -> io.NodeOutput:
        pictures, prompts = zip(*shape_edits.examples(count, seed), strict=True)
        images = [torch.from_numpy(np.array(picture)).float()[None] / 255 for picture in pictures]
        return io.NodeOutput(images, list(prompts))


NODES = [MixGRPOTinyEdits]
