"""MixGRPO_PickBest: the best images of many."""

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
from .image_list import batches, one, prompts_of, select
from .score import PER_LINE_TOOLTIP, PROMPT_TOOLTIP

BEST, ERROR = "take the best one", "stop with an error"


class MixGRPOPickBest(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_PickBest",
            display_name="MixGRPO Pick Best",
            category=SCORING,
            **found_by("best of N", "top k", "filter images", "reward", "preference", "select best"),
            description="Keeps the best images of a batch (best of N, top k, filter by score), sorted from best to "
            "worst: by a reward, or by scores that MixGRPO Score gave. Images that could not be scored are never kept.",
            is_input_list=True,
            inputs=[
                io.Image.Input("images", tooltip="The images to choose from: a batch, or batches of different sizes."),
                io.Int.Input("top_k", default=1, min=0, max=4096, tooltip="Images to keep at most; 0 keeps all."),
                io.Boolean.Input("use_threshold", default=False, tooltip="On: keep only scores of threshold or more."),
                io.Float.Input(
                    "threshold", default=0.0, min=-1e6, max=1e6, step=0.01, round=False,
                    tooltip="The lowest score that is kept, on the reward's own scale. Unused unless use_threshold is "
                    "on.",
                ),
                io.Combo.Input(
                    "if_none", options=[BEST, ERROR], default=BEST,
                    tooltip="What to do when every score is below threshold: go on with the one best image, or stop "
                    "the workflow with an error.",
                ),
                io.String.Input(
                    "prompt", multiline=True, default="",
                    tooltip=f"For the reward; unused with scores. {PROMPT_TOOLTIP}",
                ),
                io.Boolean.Input("prompt_per_line", default=False, tooltip=PER_LINE_TOOLTIP),
                REWARD.Input(
                    "reward", optional=True, tooltip="Scores the images. Not needed where scores is connected."
                ),
                io.MultiType.Input(
                    "scores", types=[io.Float, io.String], optional=True,
                    tooltip="Output scores or json of MixGRPO Score, of these same images: they aren't scored again. "
                    "Any numbers do, one an image, also as a list, array or tensor a batch.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="images", is_output_list=True,
                    tooltip="The kept images, best first: one batch, or one by one if their sizes differ.",
                ),
                io.Int.Output(
                    display_name="indices", is_output_list=True,
                    tooltip="Their places among the images that came in, from 0, best first.",
                ),
                io.Float.Output(display_name="scores", is_output_list=True, tooltip="Their scores, best first."),
                io.String.Output(
                    display_name="json", tooltip="Their scores with all details, best first: for MixGRPO Save Scored "
                    "Images.",
                ),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls,
        images: list[Tensor],
        top_k: list[int],
        use_threshold: list[bool],
        threshold: list[float],
        if_none: list[str],
        prompt: list[str],
        prompt_per_line: list[bool],
        reward: list[Reward] | None = None,
        scores: list | None = None,
    ) -> io.NodeOutput:
        pictures = batches(images)
        report = _report(pictures, prompt, one(prompt_per_line), one(reward), scores)
        limit = one(threshold) if one(use_threshold) else None
        places = choose([entry["score"] for entry in report["images"]], one(top_k), limit, one(if_none))
        chosen = [{**report["images"][place], "rank": rank} for rank, place in enumerate(places, 1)]
        kept = [float(entry["score"]) for entry in chosen]
        text = score_list.dump({**report, "images": chosen})
        return io.NodeOutput(select(images, places), places, kept, text)


def choose(scores: list[float | None], top_k: int, threshold: float | None, if_none: str) -> list[int]:
    """Places of the best scores, best first; of equal ones the first comes first. top_k 0 takes all.

    Raises ValueError when no image has a score, or none reaches the threshold and if_none says to stop.
    """
    known = {place: score for place, score in enumerate(scores) if score is not None}
    ranked = sorted(known, key=lambda place: (-known[place], place))
    if not ranked:
        raise ValueError(f"None of the {len(scores)} images could be scored: look at MixGRPO Score for the reason.")
    good = [place for place in ranked if threshold is None or known[place] >= threshold]
    if not good and if_none == ERROR:
        raise ValueError(
            f"No image reaches the threshold of {threshold:g}, the best has {known[ranked[0]]:g}: lower it, or set "
            f"if_none to '{BEST}'."
        )
    good = good or ranked[:1]
    return good[:top_k] if top_k else good


def _report(
    pictures: list[Tensor],
    prompt: list[str],
    prompt_per_line: bool,
    reward: Reward | None,
    scores: list | None,
) -> dict:
    count = sum(len(batch) for batch in pictures)
    if scores is not None and reward is not None:
        raise ValueError("Both reward and scores are connected: disconnect the one that isn't to decide.")
    if scores is not None:
        report = score_list.read(scores)
        if len(report["images"]) != count:
            raise ValueError(
                f"There are {len(report['images'])} scores for {count} images: connect the scores of these images."
            )
        return report
    if reward is None:
        raise ValueError("Neither reward nor scores is connected: connect one of them.")
    prompts = prompts_of(prompt, prompt_per_line, [len(batch) for batch in pictures])
    with until_cancelled():
        return score_list.report(score_images(reading_plain_prompts(reward), pictures, prompts), prompts)


NODES = [MixGRPOPickBest]
