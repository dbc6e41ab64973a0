"""Which run is launched when: as many are at work at once as the owner allows, the others wait for their turn.

Who waits has no process, only a turn.json in its folder, and a server that lives launches it: the one that it was
queued in, or, once that one is gone, any other. So a queue outlives its server, and goes on with the next one.
"""

from __future__ import annotations

import contextlib
import logging
import time
from typing import Any

from ...mixgrpo_engine.records.events import Cancelled, Failed
from ...mixgrpo_engine.records.files import write_json
from ...mixgrpo_engine.records.run_folder import RunFolder
from .. import owner_settings
from . import launch, liveness, news, overview, paths, process, stored

WORKERS = 1
"""At work at once on this server's device: the owner's setting `workers`."""

MOST_WORKERS = 64
STAGE = "turn"
WAITING = "Waits for its turn: it starts by itself when the trainings before it have ended."


def enter(folder: RunFolder) -> None:
    """Launches the run now, or when its turn comes. The caller holds the submit lock; raises as launch.prepare()."""
    launch.prepare(folder, stage=STAGE, message=WAITING)
    turn = {"time": time.time(), "device": launch.device(), "server": process.identity()}
    write_json(folder.path / stored.TURN, turn)
    launch_due(folder)


def launch_due(asking: RunFolder | None = None) -> list[str]:
    """Launches the runs whose turn has come; their ids. The caller holds the submit lock.

    A run that can't be launched has failed, and the next one follows. asking: raises what keeps this one from it.
    """
    launched = []
    for folder in _due():
        try:
            launch.launch(folder)
        except (OSError, ValueError) as error:
            logging.warning("MixGRPO: couldn't start run %s: %s", folder.name, error)
            with contextlib.suppress(OSError):  # a full disk takes no word: it keeps its turn
                _end(folder, Failed(str(error)), "failed")
            if asking and folder.name == asking.name:
                raise
        else:
            # Only now: a server that is killed before loses no run from the queue.
            _forget_turn(folder)
            launched.append(folder.name)
    return launched


def withdraw(folder: RunFolder) -> bool:
    """Cancels a run that waits for its turn; False for any other. The caller holds the submit lock."""
    if not liveness.waits_for_its_turn(folder, liveness.state_of(folder)):
        return False
    checkpoint = int(stored.status(folder).get("checkpoint") or 0)
    _end(folder, Cancelled(checkpoint, "Cancelled while it waited for its turn."), "cancelled")
    return True


def places() -> int:
    """How many runs may be at work at once. Raises ValueError with one sentence when the owner's setting is none."""
    return owner_settings.count("workers", WORKERS, MOST_WORKERS)


def _due() -> list[RunFolder]:
    """The runs to launch now, those that have waited longest first."""
    waiting, at_work = [], 0
    for each in overview.summaries():
        if each["state"] not in liveness.ACTIVE:
            continue
        folder = paths.folder_of(each["run_id"])
        if liveness.is_alive(folder):
            # An older version's doesn't say on what.
            at_work += stored.launch(folder).get("device", launch.device()) == launch.device()
        elif liveness.waits_for_its_turn(folder, each["state"]):
            waiting.append((_since(turn := stored.turn(folder) or {}), folder, turn))
    waiting.sort(key=lambda each: (each[0], each[1].name))
    return [folder for _, folder, turn in waiting if _is_ours(turn)][: max(0, places() - at_work)]


def _is_ours(turn: dict[str, Any]) -> bool:
    """Whether this server is to launch the run: another one of this folder may compute on another GPU."""
    server = turn.get("server")
    return turn.get("device") == launch.device() or not (isinstance(server, dict) and process.is_alive(server))


def _since(turn: dict[str, Any]) -> float:
    return turn["time"] if stored.is_number(turn.get("time")) else 0.0


def _end(folder: RunFolder, last: Cancelled | Failed, state: str) -> None:
    folder.emit(last)
    folder.set_status(state=state, stage="", message=last.message)
    _forget_turn(folder)
    news.tell(folder.name)


def _forget_turn(folder: RunFolder) -> None:
    with contextlib.suppress(OSError):  # without the state "queued" it means nothing
        (folder.path / stored.TURN).unlink(missing_ok=True)
