"""MixGRPO_RewardOutsideMask: an edit must leave alone what lies outside its mask."""

from __future__ import annotations

from comfy_api.latest import io

from ..category import REWARDS, found_by
from .reward_type import REWARD


class MixGRPORewardOutsideMask(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_RewardOutsideMask",
            display_name="MixGRPO Reward: Outside the Mask",
            category=REWARDS,
            **found_by("edit", "inpaint", "preservation", "unchanged", "masked difference"),
            description="1 minus the mean difference between an edited image and its source picture where the mask "
            "allows no change. It needs a source with a mask, and no model. Best when nothing is edited: mix it with a "
            "reward that reads the prompt.",
            inputs=[],
            outputs=[
                REWARD.Output(
                    display_name="reward", tooltip="1 when all outside the mask is as it was, 0 for black in the place "
                    "of white everywhere.",
                )
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls) -> io.NodeOutput:
        from ...mixgrpo_engine.rewards.outside_mask import OutsideMaskReward

        return io.NodeOutput(OutsideMaskReward())


NODES = [MixGRPORewardOutsideMask]
