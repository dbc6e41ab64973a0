"""A submitted graph becomes a run: a new one, the one that is at work, the finished one, or a resumed one."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from ...mixgrpo_engine.run_folder import RunFolder, write_json
from . import paths, state
from .launch import launch
from .locks import FileLock

LOCK_SECONDS = 120.0
STOP_SECONDS = 90.0


@dataclass
class Submission:
    """What became of a submitted job. action: started, resumed, reattached or finished."""

    folder: RunFolder
    action: str


def submit(job: dict, restart: bool = False) -> Submission:
    """job: what job.json holds, with "name" and "fingerprint". restart: start anew even if the run exists.

    Jobs of the same fingerprint are the same run. Nothing is ever overwritten: a restart gets the next free id.
    """
    with _submit_lock():
        siblings = _siblings(_base_id(job))
        same = [folder for folder in siblings if state.job(folder).get("fingerprint") == job["fingerprint"]]
        if same and not restart:
            return _take_up(same[-1], job)
        folder = paths.folder_of(_next_id(_base_id(job), siblings))
        folder.create()
        write_json(folder.job, {**job, "run_id": folder.name, "created": time.time()})
        launch(folder)
        logging.info("MixGRPO: started run %s, its log is %s", folder.name, folder.log)
        return Submission(folder, "started")


def resume(folder: RunFolder) -> Submission:
    """Goes on with a run from its last checkpoint. Raises ValueError when it is finished."""
    with _submit_lock():
        if state.state(folder) == "finished":
            raise ValueError(f"Run {folder.name} is finished: there is nothing to resume.")
        return _take_up(folder, state.job(folder))


def _take_up(folder: RunFolder, job: dict) -> Submission:
    _wait_until_stopped(folder)
    now = state.state(folder)
    if now == "finished":
        return Submission(folder, "finished")
    if now in state.ACTIVE:
        return Submission(folder, "reattached")
    # Settings that don't change the training (how often a checkpoint is saved) are the new ones.
    write_json(folder.job, {**state.job(folder), **job})
    launch(folder)
    logging.info("MixGRPO: resumed run %s (it was %s), its log is %s", folder.name, now, folder.log)
    return Submission(folder, "resumed")


def _wait_until_stopped(folder: RunFolder) -> None:
    """A run that was cancelled a moment ago still saves its checkpoint; only then can it be resumed."""
    deadline = time.monotonic() + STOP_SECONDS
    while state.is_cancelling(folder):
        if time.monotonic() > deadline:
            raise TimeoutError(f"Run {folder.name} was cancelled but hasn't stopped yet: try again in a minute.")
        time.sleep(0.2)


def _base_id(job: dict) -> str:
    return f"{paths.slug(job['name'])}-{job['fingerprint'][:8]}"


def _siblings(base: str) -> list[RunFolder]:
    """The folders base, base-2, base-3 ... that exist, oldest first."""
    found = [entry for entry in paths.runs_directory().glob(f"{base}*") if _number(entry.name, base)]
    return [RunFolder(entry) for entry in sorted(found, key=lambda entry: _number(entry.name, base))]


def _next_id(base: str, siblings: list[RunFolder]) -> str:
    return f"{base}-{_number(siblings[-1].name, base) + 1}" if siblings else base


def _number(name: str, base: str) -> int:
    """1 for base itself, n for base-n, 0 for another name."""
    if name == base:
        return 1
    rest = name.removeprefix(f"{base}-")
    return int(rest) if rest != name and rest.isascii() and rest.isdigit() else 0


def _submit_lock() -> FileLock:
    return FileLock(paths.runs_directory() / ".submit.lock").hold(LOCK_SECONDS)
