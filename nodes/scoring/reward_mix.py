"""MixGRPO_RewardMix: several rewards as one."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...mixgrpo_engine.rewards.mix import NORMALISATIONS, mix
from ..category import SCORING, found_by
from ..rewards import REWARD

SOCKETS = range(1, 7)


class MixGRPORewardMix(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_RewardMix",
            display_name="MixGRPO Reward Mix",
            category=SCORING,
            **found_by("weighted reward", "combine scores", "multi reward", "preference"),
            description="Combines up to six rewards with weights into one, for scoring, comparing and training. A "
            "mix can be part of another mix.",
            inputs=[
                *(
                    io.Float.Input(
                        f"weight_{number}", default=1.0, min=0.0, max=1e6, step=0.05, round=False,
                        tooltip=f"Share of reward_{number}: weights are divided by their sum. 0 only watches it: its "
                        "scores are shown, and count for nothing.",
                    )
                    for number in SOCKETS
                ),
                io.Combo.Input(
                    "normalisation", options=list(NORMALISATIONS), default="none",
                    tooltip="none: the weighted mean of the scores as they are. batch: each reward first gets mean 0 "
                    "and standard deviation 1 over the images that are scored together, so that rewards of different "
                    "scales count alike. MixGRPO Train doesn't need it.",
                ),
                *(
                    REWARD.Input(f"reward_{number}", optional=True, tooltip="A reward, or another mix.")
                    for number in SOCKETS
                ),
            ],
            outputs=[
                REWARD.Output(
                    display_name="reward",
                    tooltip="For every input that takes a reward. MixGRPO Train takes it apart: each scorer gets "
                    "advantages of its own, which are then weighted.",
                )
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, normalisation: str, **inputs: Any) -> io.NodeOutput:
        entries = [
            (inputs[f"reward_{number}"], inputs[f"weight_{number}"])
            for number in SOCKETS
            if inputs.get(f"reward_{number}") is not None
        ]
        if not entries:
            raise ValueError("No reward is connected to the mix: connect at least reward_1.")
        return io.NodeOutput(mix(entries, normalisation))


NODES = [MixGRPORewardMix]
