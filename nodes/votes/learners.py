"""MixGRPO_RewardTaste and MixGRPO_RewardYou: rewards by one person's votes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from comfy_api.latest import io

from ...mixgrpo_engine.rewards.taste import LiveReward, TasteReward
from ...mixgrpo_engine.taste.features import Features, PictureStatistics
from ..category import REWARDS, found_by
from ..rewards import REWARD
from ..rewards import weights as files_of
from ..runs import launch
from . import sets

NONE = "none"
WORDS = ("taste", "vote", "preference", "human feedback", "personal", "RLHF", "reward model")
LEFT_OUT, LEARNED = UNANSWERED = ("left out", "learned taste")


def votes_input(tooltip: str) -> io.String.Input:
    return io.String.Input("votes", default=sets.DEFAULT, tooltip=f"{tooltip} A name of {sets.NAME_TOLD}.")


def clip_inputs() -> list[io.Input]:
    """Of the features that a CLIP gives: the same files as for CLIPScore."""
    eyes, text = files_of.choices(files_of.CLIP), files_of.choices(files_of.CLIP_TEXT)
    return [
        io.Combo.Input(
            "clip_weights", options=[NONE, *(each for each in eyes if each != NONE)], default=NONE, optional=True,
            tooltip="A CLIP that the taste looks through, as in MixGRPO Reward: CLIPScore: it sees style and subject. "
            "none: colours, places and sizes alone, and in a training how well the image fits its prompt.",
        ),
        io.Combo.Input(
            "text_weights", options=text, default=text[0], optional=True,
            tooltip="The CLIP's text encoder, if clip_weights holds the image encoder alone.",
        ),
    ]  # fmt: skip


class MixGRPORewardTaste(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_RewardTaste",
            display_name="MixGRPO Reward: Taste",
            category=REWARDS,
            **found_by(*WORDS),
            description="What you would choose, learned from your votes (panel, tab Votes; MixGRPO Vote): a small "
            "preference model that is fitted in seconds and again whenever there are new votes. 20 votes are a "
            "beginning, 40 are good. In a training mix it with a reward that reads the prompt.",
            inputs=[
                votes_input("The set of votes to learn from."),
                io.Int.Input(
                    "ask_every", default=0, min=0, max=1_000_000, optional=True,
                    tooltip="In a training: every so many groups of images, the four that it is least sure of come up "
                    "for your vote, and what you answer counts from the next group on. Nothing waits for you. 0 never.",
                ),
                *clip_inputs(),
            ],
            outputs=[
                REWARD.Output(
                    display_name="reward",
                    tooltip="Log-odds of being chosen, higher is better; 0 is a typical image of the votes. Compare "
                    "images of one prompt.",
                )
            ],
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(cls, votes: str = "", **_: Any) -> tuple:
        return _stamp(votes)

    @classmethod
    def execute(
        cls, votes: str, ask_every: int = 0, clip_weights: str = NONE, text_weights: str = NONE
    ) -> io.NodeOutput:
        return io.NodeOutput(taste_of(votes, clip_weights, text_weights, ask_every))


class MixGRPORewardYou(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_RewardYou",
            display_name="MixGRPO Reward: You",
            category=REWARDS,
            **found_by(*WORDS),
            description="You are the reward: the training shows some images of every group in the panel's tab Votes, "
            "waits for your choice, and learns from it. Every choice is also a vote that MixGRPO Reward: Taste can "
            "learn from later.",
            inputs=[
                votes_input("The set that your choices are kept in."),
                io.Int.Input(
                    "shown", default=4, min=2, max=16,
                    tooltip="Images of a group that you see. The others teach nothing.",
                ),
                io.Int.Input(
                    "patience", default=0, min=0, max=10_000_000,
                    tooltip="Seconds that the training waits for an answer. 0 waits without end; a training that "
                    "learns from nothing else also does after two groups without an answer.",
                ),
                io.Combo.Input(
                    "unanswered", options=list(UNANSWERED), default=LEFT_OUT,
                    tooltip="Of a group that you skip or don't answer in time, and of held-out images. left out: "
                    "nothing is learned from it. learned taste: scored by what was learned from your votes so far.",
                ),
            ],
            outputs=[
                REWARD.Output(
                    display_name="reward", tooltip="1 for the best of a group down to 0; only the order counts."
                )
            ],
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(cls, votes: str = "", **_: Any) -> tuple:
        return _stamp(votes)

    @classmethod
    def execute(cls, votes: str, shown: int, patience: int, unanswered: str) -> io.NodeOutput:
        instead = taste_of(votes) if unanswered == LEARNED else None
        return io.NodeOutput(LiveReward(sets.of_name(votes), shown, patience, instead, run_at_work()))


def taste_of(votes: str, clip_weights: str = NONE, text_weights: str = NONE, ask_every: int = 0) -> TasteReward:
    """The learned taste of a set. Raises ValueError with one sentence for what is no name of one."""
    sources: list[Features] = [PictureStatistics()]
    if clip_weights != NONE:
        sources.append(clip_features(clip_weights, text_weights))
    return TasteReward(sets.of_name(votes), sources, ask_every, run_at_work())


def clip_features(clip_weights: str, text_weights: str) -> Features:
    """What a CLIP's embedding says; the same files as CLIPScore's."""
    from ...mixgrpo_engine.taste.clip_features import ClipFeatures
    from ..rewards import neural

    reward = neural.MixGRPORewardCLIPScore.execute(
        clip_weights, text_weights, "auto", "default", "auto", 16, False
    ).result[0]
    return ClipFeatures(reward)


def run_at_work() -> str:
    """The run whose worker this process is, "" in a server."""
    return Path(os.environ[launch.WORKER_VARIABLE]).name if launch.in_worker() else ""


def _stamp(votes: str) -> tuple:
    """Changes with every vote, so that ComfyUI's cache gives no old taste."""
    try:
        at = sets.of_name(votes).log.stat()
    except (OSError, ValueError, TypeError):
        return (votes,)
    return votes, at.st_size, at.st_mtime_ns


NODES = [MixGRPORewardTaste, MixGRPORewardYou]
