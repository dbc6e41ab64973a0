"""A run's state, also when its worker can't say it any more: here a dead worker is noticed."""

from __future__ import annotations

import time

from ...mixgrpo_engine.records import disk
from ...mixgrpo_engine.records.run_folder import RunFolder
from . import locks, process
from .stored import TURN, check_job, launch, status

ACTIVE = ("queued", "waiting", "running")
"""States in which a worker is at work, or going to be."""

UNREADABLE = "unreadable"
"""The state of a run whose files are damaged."""

STARTING_SECONDS = 10.0
"""Between "queued" and the worker's process there is a moment in which nobody can be seen."""


def state_of(folder: RunFolder) -> str:
    """queued, waiting, running, finished, failed, cancelled, dead (the worker is gone without a word) or unreadable."""
    return _look(folder)[0]


def damage(folder: RunFolder) -> str:
    """Which of the run's files can't be read, in one sentence; "" when all can."""
    return _look(folder)[1]


def _look(folder: RunFolder) -> tuple[str, str]:
    try:
        check_job(folder)
        return read_state(folder), ""
    except (ValueError, OSError) as error:
        return UNREADABLE, str(error)


def read_state(folder: RunFolder) -> str:
    """As state_of(), but raises ValueError or OSError, with a sentence, where files are damaged."""
    told = status(folder)
    if told["state"] not in ACTIVE or is_alive(folder) or waits_for_its_turn(folder, told["state"]):
        return told["state"]
    starting = told["state"] == "queued" and time.time() - (told.get("updated") or 0.0) < STARTING_SECONDS
    if starting and not launch(folder):
        return "queued"
    # Between the two looks the worker may have started, or written its last word.
    now = status(folder)["state"]
    if now not in ACTIVE or is_alive(folder) or waits_for_its_turn(folder, now):
        return now
    # A worker that was asked to stop before it could listen has just ended.
    return "cancelled" if folder.cancel_file.exists() else "dead"


def unsaid(folder: RunFolder) -> str:
    """Why the worker of a dead run could write no last word, if its disk tells; else ""."""
    return str(disk.standing(folder.path) or "")


def waits_for_its_turn(folder: RunFolder, state: str) -> bool:
    """Whether a run of this state has no process yet, because a server will start it: turns.py."""
    return state == "queued" and (folder.path / TURN).exists()


def is_alive(folder: RunFolder) -> bool:
    """True while a worker process of this run exists."""
    return process.is_alive(launch(folder), folder.path) or locks.is_taken(folder.lock)


def is_cancelling(folder: RunFolder) -> bool:
    return folder.cancel_file.exists() and not damage(folder) and is_alive(folder)
