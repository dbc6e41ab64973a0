"""MixGRPO_RewardHTTP: any scorer on a host that the owner allows."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...mixgrpo_engine.rewards.remote.http_reward import HTTPOptions, HTTPReward
from ..category import REWARDS, found_by
from ..setting_widgets import folded_but
from .remote import RemoteReward, client_options, network_inputs, packing_inputs, urls_input
from .reward_type import REWARD


class MixGRPORewardHTTP(RemoteReward):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_RewardHTTP",
            display_name="MixGRPO Reward: HTTP",
            category=REWARDS,
            **found_by("reward server", "remote", "API", "HPSv3", "GenEval", "DeQA", "VideoAlign", "own scorer"),
            description="Asks any scorer behind HTTP: it gets images (a video as its frames), prompts and what the "
            "images were made from, and gives a score each. A few lines of Python make a server of any function "
            "(mixgrpo_engine/rewards/server.py). The owner of this ComfyUI must allow the server's host.",
            inputs=folded_but(("urls", "batch_size"), [
                urls_input("http://127.0.0.1:8100", "http://host:port, with a path if it has one."),
                io.Int.Input(
                    "batch_size", default=8, min=1, max=1024,
                    tooltip="Images of a request, or videos. A server with a GPU is faster with many.",
                ),
                *network_inputs("Requests at the same time.", timeout=120.0),
                *packing_inputs(4096, "png"),
            ]),
            outputs=[REWARD.Output(display_name="reward", tooltip="The scorer's own numbers, higher is better.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, urls: str, batch_size: int, max_side: int, image_format: str, **network: Any) -> io.NodeOutput:
        addresses, hosts, key = cls.allowed(urls)
        options = HTTPOptions(addresses, batch_size, max_side, image_format)
        return io.NodeOutput(HTTPReward(options, client_options(**network), hosts, key))


NODES = [MixGRPORewardHTTP]
