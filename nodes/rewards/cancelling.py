"""ComfyUI's Cancel button and scorers that take long: a judge that doesn't answer, hundreds of images on a CPU."""

from __future__ import annotations

from contextlib import AbstractContextManager

from ...mixgrpo_engine.rewards import asking


def until_cancelled() -> AbstractContextManager[None]:
    """Inside it scorers look for Cancel while they score."""
    import comfy.model_management

    return asking(comfy.model_management.throw_exception_if_processing_interrupted)
