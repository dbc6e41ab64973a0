"""Rewards: `score(images, prompts)` gives one float an image. Each scorer is a module of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from .references import References, arguments


@runtime_checkable
class Reward(Protocol):
    """One scorer.

    It may have more: `strict(images, prompts)` -> 1.0 right, 0.0 wrong, NaN unknown; and `failures`, a list of
    sentences that say why the last call of score() gave NaN; and `remarks`, sentences about that call that people
    should know. `uses_policy` is true for one that calls the trained model itself, and so can't work beside the next
    rollout; `abstains` for one whose silence about all images is a choice, and no failure, and `leaves_out_held_out`
    for one that has no scores for held-out images at all. One with `uses_references` gets score(images, prompts,
    references), a list with one References an image, and strict() alike; the pictures that it can't do without are
    named in `needed_references`. `score_videos(videos, prompts)`, videos float (batch, frames, height, width, 3), is
    asked in the place of the mean over a video's frames; `compares_group` is true for one whose scores only tell the
    images of one call apart, so that their mean says nothing. Where scoring may take long it calls go_on() now and
    then.
    """

    name: str

    def score(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """images: float (batch, height, width, 3) in 0..1; prompts: one an image.

        Returns float32 (batch,), higher is better; NaN means that this image could not be scored.
        """
        ...


_held_out: ContextVar[bool] = ContextVar("mixgrpo_held_out", default=False)
_ask: ContextVar[Callable[[], None]] = ContextVar("mixgrpo_go_on", default=lambda: None)


@contextmanager
def asking(ask: Callable[[], None]) -> Iterator[None]:
    """Inside it go_on() calls `ask`, in this thread; what `ask` raises ends the scoring."""
    before = _ask.set(ask)
    try:
        yield
    finally:
        _ask.reset(before)


def go_on() -> None:
    """Scorers call it before each piece of work: it raises when whoever wanted the scores wants them no more."""
    _ask.get()()


@contextmanager
def scoring_held_out() -> Iterator[None]:
    """Inside it what is scored is a training's held-out images, in this thread."""
    before = _held_out.set(True)
    try:
        yield
    finally:
        _held_out.reset(before)


def of_one_group(prompts: Sequence[str]) -> bool:
    """Whether the images that are scored are alternatives for one prompt: a training's group, or what stands alone."""
    return len(set(prompts)) == 1 and not _held_out.get()


def failures(reward: Reward) -> list[str]:
    """Why the reward's last call gave NaN, one sentence each; empty when it doesn't say."""
    return list(getattr(reward, "failures", ()))


def remarks(reward: Reward) -> list[str]:
    """What the reward has to say of its last call, sentences."""
    return list(getattr(reward, "remarks", ()))


def uses_policy(reward: Reward) -> bool:
    """Whether it calls the model that is trained."""
    return bool(getattr(reward, "uses_policy", False))


def abstains(reward: Reward) -> bool:
    """Whether it may score none of a call's images on purpose."""
    return bool(getattr(reward, "abstains", False))


def compares_group(reward: Reward) -> bool:
    """Whether its scores only tell the images of one call apart: their mean says nothing."""
    return bool(getattr(reward, "compares_group", False))


def check_batch(images: Tensor, prompts: Sequence[str]) -> None:
    """Raises ValueError unless images are float (batch, height, width, 3) of some size, with one prompt an image."""
    if images.ndim != 4 or images.shape[-1] != 3 or 0 in images.shape[1:]:
        raise ValueError(f"images must be (batch, height, width, 3), not {tuple(images.shape)}")
    # As whole numbers 0 to 255 they'd all count as white.
    if not images.is_floating_point():
        raise ValueError(f"images must be float in 0..1, not {images.dtype}: divide 8-bit images by 255")
    if isinstance(prompts, str):
        raise ValueError("prompts must be a list with one text an image, not a single text")
    if len(images) != len(prompts):
        raise ValueError(f"{len(images)} images, but {len(prompts)} prompts")


def check_reward(reward: object) -> None:
    """Raises ValueError unless the object has what makes a reward; other packs may bring their own."""
    if not isinstance(getattr(reward, "name", None), str) or not callable(getattr(reward, "score", None)):
        raise ValueError(
            f"A {type(reward).__name__} is no reward: it needs a text `name` and a function `score(images, prompts)`. "
            "Connect a reward node."
        )


def checked_scores(
    reward: Reward, images: Tensor, prompts: Sequence[str], references: Sequence[References] | None = None
) -> Tensor:
    """The reward's scores as float32 (batch,) on the CPU; NaN where it failed, gave infinity, or got a broken image.

    references: one an image, for the rewards that use them. Raises ValueError with one sentence when it doesn't give
    one number an image, or needs references that there aren't.
    """
    given = reward.score(*arguments(reward, images, prompts, references))
    try:
        scores = torch.as_tensor(given, dtype=torch.float32).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(
            f"The reward '{reward.name}' gave a {type(given).__name__} that isn't a row of numbers: it must give one "
            "number an image."
        ) from None
    if scores.shape != (len(images),):
        raise ValueError(
            f"The reward '{reward.name}' gave {list(scores.shape)} scores for {len(images)} images: "
            "it must give one an image."
        )
    intact = images.flatten(1).isfinite().all(1).cpu()
    return torch.where(intact & scores.isfinite(), scores, torch.nan)


def strict_scores(
    reward: Reward, images: Tensor, prompts: Sequence[str], references: Sequence[References] | None = None
) -> Tensor | None:
    """The reward's strict(), float32 (batch,) on the CPU: 1 right, 0 wrong, NaN unknown; None of one that has none."""
    strict = getattr(reward, "strict", None)
    if strict is None:
        return None
    return torch.as_tensor(strict(*arguments(reward, images, prompts, references))).float().cpu()
