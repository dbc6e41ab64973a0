"""Samples and scores two models on the same prompts and noises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...mixgrpo_engine.rewards import Reward, compares_group
from ...mixgrpo_engine.rewards.mix import parts
from ...mixgrpo_engine.rewards.references import check_references
from ...mixgrpo_engine.rewards.scoring import combine, score_images
from ...mixgrpo_engine.rewards.taste import LiveReward
from ..comfy_types import Model, Vae
from ..model.conditioning import Encoded
from ..model.video import reward_of_videos
from ..rewards.cancelling import until_cancelled
from ..rewards.plain_prompts import reading_plain_prompts
from .stock_sampling import Sampling, sample_images


@dataclass(frozen=True)
class Result:
    """Scores float32 (prompts, images), NaN where scoring failed; the same place has the same noise in all."""

    prompts: list[str]
    scores: dict[str, dict[str, Tensor]]  # by model, then by scorer
    totals: dict[str, Tensor] | None  # by model: of a mix of several scorers, else None
    shares: dict[str, float]  # of each scorer in the total
    reasons: list[str]  # why some have failed
    remarks: list[str]  # what else the scorers say
    shown: dict[str, Tensor]  # by model: the first image of the first prompts, (shown, height, width, 3), or filmstrip


def evaluate(
    models: Mapping[str, Model],
    vae: Vae,
    reward: Reward,
    prompts: Sequence[str],
    encoded: Encoded,
    negative: str,
    sampling: Sampling,
    show: int,
    node_id: str | None = None,
) -> Result:
    """models: MODELs by name. encoded: all prompts and the negative one. show: prompts whose first image is kept.

    One model after the other, since changing between them costs a reload of the weights; images are scored as they
    come. Raises what sampling and scoring raise, ComfyUI's interrupt too.
    """
    import comfy.utils

    _check(reward)
    reward = reward_of_videos(reading_plain_prompts(reward), sampling.frames)
    bar = comfy.utils.ProgressBar(len(models) * len(prompts) * sampling.model_steps(), node_id)
    scores, shown, reasons, remarks, shares = {}, {}, [], [], {}
    for name, model in models.items():
        scored, kept = [], []
        for number, prompt in enumerate(prompts):
            images = sample_images(
                model, vae, encoded[prompt], encoded[negative], sampling, number, lambda: bar.update(1)
            )
            with until_cancelled():
                scored.append(score_images(reward, [images], [prompt] * len(images)))
            if number < show:
                kept.append(images[0].clone())
        shares = scored[0].shares
        scores[name] = {part: torch.stack([each.parts[part] for each in scored]) for part in shares}
        shown[name] = torch.stack(kept)
        reasons += [reason for each in scored for reason in each.reasons]
        remarks += [remark for each in scored for remark in each.remarks]
    totals = _totals(reward, scores) if len(shares) > 1 else None
    reasons, remarks = list(dict.fromkeys(reasons)), list(dict.fromkeys(remarks))
    return Result(list(prompts), scores, totals, shares, reasons, remarks, shown)


def _check(reward: Reward) -> None:
    """Raises ValueError with one sentence for a reward that can't compare two models; before any is sampled."""
    for name, scorer in parts(reward)[0].items():
        check_references(scorer, None)
        if compares_group(scorer) or isinstance(scorer, LiveReward):  # a person orders a call's images, too
            raise ValueError(
                f"The reward '{name}' compares images of one model with each other, so both models would get 1/2: "
                "connect another reward to MixGRPO Evaluate."
            )


def _totals(reward: Reward, scores: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """A mix that normalises does so over both models' images together: each by itself would have mean 0."""
    models = list(scores)
    joined = {part: torch.stack([scores[model][part] for model in models]) for part in scores[models[0]]}
    shape = next(iter(joined.values())).shape
    total = combine(reward, {part: values.flatten() for part, values in joined.items()}).view(shape)
    return dict(zip(models, total, strict=True))
