"""Asks runs' workers to stop: they save a checkpoint and end by themselves. Who waits for its turn never starts."""

from __future__ import annotations

from collections.abc import Iterable

from ...mixgrpo_engine.records.run_folder import RunFolder
from . import liveness, process, stored, submit, turns


def cancel(folder: RunFolder) -> bool:
    """False when there is nothing to stop."""
    return cancel_all([folder]) > 0


def cancel_all(folders: Iterable[RunFolder]) -> int:
    """How many of them were there to stop. None of them starts in another one's place meanwhile.

    Raises OSError when a disk took no word of it, once all are asked.
    """
    trouble: OSError | None = None
    with submit.lock():
        active = [folder for folder in folders if liveness.state_of(folder) in liveness.ACTIVE]
        for folder in active:
            try:
                if not turns.withdraw(folder):
                    _ask_to_stop(folder)
            except OSError as error:
                trouble = trouble or error
    if trouble:
        raise trouble
    return len(active)


def _ask_to_stop(folder: RunFolder) -> None:
    # The file is for Windows, and for a worker that doesn't listen to signals yet; the signal is faster.
    folder.cancel_file.touch()
    for who in (stored.launch(folder), stored.status(folder)):
        process.terminate(who, folder.path)
