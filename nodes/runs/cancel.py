"""Asks a run's worker to stop; it saves a checkpoint and ends by itself."""

from __future__ import annotations

from ...mixgrpo_engine.records.run_folder import RunFolder
from . import process, state


def cancel(folder: RunFolder) -> bool:
    """False when there is no worker to stop."""
    if state.state(folder) not in state.ACTIVE:
        return False
    # The file is for Windows, and for a worker that doesn't listen to signals yet; the signal is faster.
    folder.cancel_file.touch()
    for who in (state.launch(folder), state.status(folder)):
        process.terminate(who, folder.path)
    return True
