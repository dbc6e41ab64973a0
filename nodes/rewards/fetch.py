"""Gets the file that a weights widget means; a download shows its progress in ComfyUI and can be cancelled there."""

from __future__ import annotations

import logging
from pathlib import Path

from ...mixgrpo_engine.rewards.files.catalog import KnownFile
from . import weights


def obtain(slot: weights.Slot, value: str) -> Path | None:
    """The file, downloaded first where the value says so; None for an optional one that is left out.

    Raises ValueError or DownloadError with one sentence, and ComfyUI's interruption.
    """
    path = weights.find(slot, value)
    if path is None and slot.known and not (slot.optional and value == weights.NONE):
        path = _download(slot.known)
    return path


def _download(file: KnownFile) -> Path:
    import comfy.model_management
    import comfy.utils

    from ...mixgrpo_engine.rewards.files.download import download

    folder = weights.own_folder()
    logging.info("MixGRPO downloads %s (%s) from %s into %s.", file.name, file.terms, file.page, folder)
    bar = comfy.utils.ProgressBar(100)
    shown = -1

    def progress(done: int, total: int) -> None:
        nonlocal shown
        if (percent := done * 100 // total) > shown:  # every step is a message to the browser
            shown = percent
            bar.update_absolute(percent)

    return download(file, folder, progress, comfy.model_management.throw_exception_if_processing_interrupted)
