"""Asks a run's worker to stop; it saves a checkpoint and ends by itself."""

from __future__ import annotations

from ...mixgrpo_engine.records.run_folder import RunFolder
from . import liveness, process, stored


def cancel(folder: RunFolder) -> bool:
    """False when there is no worker to stop."""
    if liveness.state_of(folder) not in liveness.ACTIVE:
        return False
    # The file is for Windows, and for a worker that doesn't listen to signals yet; the signal is faster.
    folder.cancel_file.touch()
    for who in (stored.launch(folder), stored.status(folder)):
        process.terminate(who, folder.path)
    return True
