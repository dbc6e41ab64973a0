"""Removes a run: its folder, and its published LoRAs if asked to. For good."""

from __future__ import annotations

import contextlib
import shutil

from ...mixgrpo_engine.records.run_folder import RunFolder
from . import actions, liveness, news, paths, published_lora, submit


def remove(folder: RunFolder, loras: bool) -> None:
    """Raises ValueError with one sentence when a process has the run. A link inside is removed, never followed."""
    with submit.lock():
        if liveness.state_of(folder) in liveness.ACTIVE or actions.is_held(folder):
            raise ValueError(f"Run {folder.name} is at work: cancel it, and delete it when it has ended.")
        names = published_lora.published().get(folder.name, ()) if loras else ()
        # Out of everybody's sight first: what can't be removed entirely is no half run.
        doomed = folder.path.with_name(f".removed-{folder.name}")
        if doomed.exists():
            shutil.rmtree(doomed)
        folder.path.rename(doomed)
    try:
        if doomed.is_symlink():
            doomed.unlink()
        else:
            shutil.rmtree(doomed)
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                (paths.lora_folder() / name).unlink()
    finally:
        news.tell(folder.name)
