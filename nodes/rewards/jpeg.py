"""MixGRPO_RewardJPEG: the size of the image as a JPEG file."""

from __future__ import annotations

from comfy_api.latest import io

from ...mixgrpo_engine.rewards.jpeg import KINDS, JpegReward
from ..category import REWARDS, found_by
from .reward_type import REWARD


class MixGRPORewardJPEG(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_RewardJPEG",
            display_name="MixGRPO Reward: JPEG Size",
            category=REWARDS,
            **found_by("reward", "compression", "file size"),
            description="Compressibility or incompressibility: the size of the image as a JPEG file in kB. Needs no "
            "model, and shows within minutes whether a training works.",
            inputs=[
                io.Combo.Input(
                    "kind", options=list(KINDS), default=KINDS[0],
                    tooltip="compressibility: small files are good, pictures become plain. incompressibility: large "
                    "files are good, pictures become full of detail.",
                ),
            ],
            outputs=[REWARD.Output(display_name="reward", tooltip="For MixGRPO Train.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, kind: str) -> io.NodeOutput:
        return io.NodeOutput(JpegReward(kind))


NODES = [MixGRPORewardJPEG]
