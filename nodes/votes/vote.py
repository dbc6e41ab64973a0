"""MixGRPO_Vote: puts images to the vote."""

from __future__ import annotations

import time

import torch
from comfy_api.latest import io
from torch import Tensor

from ...mixgrpo_engine.taste.votes import Order, VoteSet
from ..category import SCORING, found_by
from . import sets
from .learners import WORDS, votes_input

GO_ON, WAIT = ("go on", "wait")
LOOK_SECONDS = 0.25


class MixGRPOVote(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_Vote",
            display_name="MixGRPO Vote",
            category=SCORING,
            **found_by(*WORDS),
            description="Puts images of one prompt to the vote, in the panel's tab Votes. What you choose is kept: "
            "MixGRPO Reward: Taste learns from it.",
            is_output_node=True,
            inputs=[
                io.Image.Input("images", tooltip="2 to 16 images of one prompt."),
                io.String.Input("prompt", default="", multiline=True, tooltip="What they were made from."),
                votes_input("The set that the votes are kept in."),
                io.Combo.Input(
                    "answer", options=[GO_ON, WAIT], default=GO_ON,
                    tooltip="go on: the graph doesn't wait, vote whenever you like. wait: it goes on when you have "
                    "chosen or skipped; Cancel ends it.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="images", tooltip="All images, as they came in."),
                io.Image.Output(
                    display_name="best",
                    tooltip="Those that you chose as best; all of them where nothing is waited for, or you skipped.",
                ),
            ],
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(cls, votes: str = "", answer: str = GO_ON, **_: object) -> object:
        return float("nan") if answer == WAIT else votes

    @classmethod
    def execute(cls, images: Tensor, prompt: str, votes: str, answer: str) -> io.NodeOutput:
        chosen = sets.of_name(votes)
        sheet = chosen.add(images, prompt)
        order = wait_for(chosen, sheet.id) if answer == WAIT else None
        best = images if order is None else images[torch.tensor(order[0])]
        waiting = len(chosen.read().pending)
        told = f"{waiting} {'sheet waits' if waiting == 1 else 'sheets wait'} for your vote in '{votes}'."
        return io.NodeOutput(images, best, ui={"text": [told]})


def wait_for(votes: VoteSet, sheet: str) -> Order | None:
    """The answer; None for a skipped sheet. Raises ComfyUI's interrupt when the prompt is cancelled."""
    from comfy.model_management import throw_exception_if_processing_interrupted

    while True:
        state = votes.read()
        if sheet in state.answers or sheet in state.skipped:
            return state.answers.get(sheet)
        throw_exception_if_processing_interrupted()
        time.sleep(LOOK_SECONDS)


NODES = [MixGRPOVote]
