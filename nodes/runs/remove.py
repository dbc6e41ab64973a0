"""Removes a run: its folder, and its published LoRAs if asked to. For good."""

from __future__ import annotations

from ...mixgrpo_engine.records import files
from ...mixgrpo_engine.records.run_folder import RunFolder
from . import actions, liveness, news, paths, published_lora, submit

REMOVED = ".removed-"


def remove(folder: RunFolder, loras: bool) -> None:
    """Raises ValueError with one sentence when a process has the run. A link inside is removed, never followed."""
    with submit.lock():
        if liveness.state_of(folder) in liveness.ACTIVE or actions.is_held(folder):
            raise ValueError(f"Run {folder.name} is at work: cancel it, and delete it when it has ended.")
        names = published_lora.published().get(folder.name, ()) if loras else ()
        # Out of everybody's sight first: what can't be removed entirely is no half run.
        doomed = folder.path.with_name(f"{REMOVED}{folder.name}")
        files.remove(doomed)
        files.replace(folder.path, doomed)
    try:
        files.remove(doomed)
        for name in names:
            files.remove(paths.lora_folder() / name)
        for left in doomed.parent.glob(f"{REMOVED}*"):
            files.remove(left)  # what was in somebody's hands at an earlier time
    finally:
        news.tell(folder.name)
