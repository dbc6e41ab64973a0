"""MixGRPO_Score: how good are these images, each by itself?"""

from __future__ import annotations

from comfy_api.latest import io
from torch import Tensor

from ...mixgrpo_engine.rewards import Reward
from ...mixgrpo_engine.rewards.scoring import score_images
from ..category import SCORING, found_by
from ..rewards import REWARD
from ..rewards.cancelling import until_cancelled
from ..rewards.plain_prompts import reading_plain_prompts
from . import score_list
from .image_list import batches, one, prompts_of, references_of

PROMPT_TOOLTIP = (
    "What the images should show: one prompt for all of them. With prompt_per_line: one line an image. Or connect a "
    "list of texts, one an image or one a batch. Scores of different prompts don't compare with every reward."
)
PER_LINE_TOOLTIP = "On: every non-empty line of prompt belongs to one image, in their order. Off: all images share it."


class MixGRPOScore(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_Score",
            display_name="MixGRPO Score",
            category=SCORING,
            **found_by("reward", "aesthetic score", "preference score", "rank images", "image quality", "rating"),
            description="Scores and ranks images with a reward (aesthetic, preference, prompt following, ...) or a mix "
            "of several: a number for each image, their mean, and a table with the best image first. Higher is better.",
            is_input_list=True,
            is_output_node=True,
            inputs=[
                io.Image.Input(
                    "images", tooltip="The images to score: a batch, or a list of batches of different sizes."
                ),
                REWARD.Input("reward", tooltip="Any reward, or a MixGRPO Reward Mix for several at once."),
                io.String.Input("prompt", multiline=True, default="", tooltip=PROMPT_TOOLTIP),
                io.Boolean.Input("prompt_per_line", default=False, tooltip=PER_LINE_TOOLTIP),
                io.Image.Input(
                    "source", optional=True,
                    tooltip="The picture that the images were made from, for rewards that compare with it: one for all "
                    "images, one a batch, or one an image.",
                ),
                io.Mask.Input(
                    "mask", optional=True,
                    tooltip="Where an edit may change the source (white), for rewards that look outside it: one for "
                    "all images, one a batch, or one an image.",
                ),
            ],
            outputs=[
                io.Float.Output(
                    display_name="scores", is_output_list=True,
                    tooltip="One score an image, in the images' order; NaN where scoring failed.",
                ),
                io.Float.Output(
                    display_name="mean", tooltip="Mean over the images that could be scored; NaN when none could."
                ),
                io.String.Output(
                    display_name="json",
                    tooltip="Scores, ranks and each scorer's own scores of every image; null where scoring failed. "
                    "For MixGRPO Pick Best and MixGRPO Save Scored Images.",
                ),
                io.String.Output(display_name="table", tooltip="The same as text, the best image first."),
                io.Image.Output(
                    display_name="images", is_output_list=True, tooltip="The images as they came in, for what follows."
                ),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, images: list[Tensor], reward: list[Reward], prompt: list[str], prompt_per_line: list[bool],
        source: list[Tensor] | None = None, mask: list[Tensor] | None = None,
    ) -> io.NodeOutput:  # fmt: skip
        pictures = batches(images)
        sizes = [len(batch) for batch in pictures]
        prompts, references = prompts_of(prompt, one(prompt_per_line), sizes), references_of(source, mask, sizes)
        with until_cancelled():
            scored = score_images(reading_plain_prompts(one(reward)), pictures, prompts, references)
        report = score_list.report(scored, prompts)
        text = score_list.table(report)
        return io.NodeOutput(
            [float(score) for score in scored.total],
            score_list.mean(scored.total),
            score_list.dump(report),
            text,
            list(images),
            # What goes to the browser must be JSON: None for a failed score.
            ui={"text": [text], "scores": [entry["score"] for entry in report["images"]]},
        )


NODES = [MixGRPOScore]
