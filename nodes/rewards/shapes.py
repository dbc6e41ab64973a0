"""MixGRPO_RewardShapes: the judge of the embedded tiny model's world."""

from __future__ import annotations

from comfy_api.latest import io

from ..category import REWARDS, found_by
from .reward_type import REWARD


class MixGRPORewardShapes(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_RewardShapes",
            display_name="MixGRPO Reward: Shapes",
            category=REWARDS,
            **found_by("reward", "demo", "test reward"),
            description="Judges pictures of coloured shapes (the embedded tiny model's world): count, colour, shape, "
            "position and background against the prompt, 0 to 1 with partial credit.",
            inputs=[],
            outputs=[REWARD.Output(display_name="reward", tooltip="For MixGRPO Train.")],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        from ...mixgrpo_engine.rewards.shapes import ShapesReward

        return io.NodeOutput(ShapesReward())


NODES = [MixGRPORewardShapes]
