"""ComfyUI's Cancel button and scorers that take long: a judge that doesn't answer, hundreds of images on a CPU."""

from __future__ import annotations

from typing import TypeVar

from ..runs.launch import in_worker

Scorer = TypeVar("Scorer")


def cancellable(reward: Scorer) -> Scorer:
    """The same scorer, which now looks for Cancel while it scores. In a worker the training looks itself."""
    if not in_worker():
        import comfy.model_management

        reward.check = comfy.model_management.throw_exception_if_processing_interrupted
    return reward
