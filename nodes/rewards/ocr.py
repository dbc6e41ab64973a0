"""MixGRPO_RewardOCR: does the picture show the text that the prompt quotes?"""

from __future__ import annotations

from comfy_api.latest import io

from ..category import REWARDS, found_by
from .reward_type import REWARD


class MixGRPORewardOCR(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_RewardOCR",
            display_name="MixGRPO Reward: OCR",
            category=REWARDS,
            **found_by("reward", "text rendering", "spelling", "read text"),
            description="Text rendering: reads the picture (OCR) and compares it with the text in quotes in the "
            "prompt, 0 to 1. Needs the package rapidocr; its models are in the package.",
            inputs=[],
            outputs=[REWARD.Output(display_name="reward", tooltip="For MixGRPO Train.")],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        from ...mixgrpo_engine.rewards.ocr import OcrReward, require_packages

        # Now rather than at the first image, after minutes of loading.
        require_packages()
        return io.NodeOutput(OcrReward())


NODES = [MixGRPORewardOCR]
