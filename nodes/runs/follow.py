"""Follows the event logs of all runs and passes what is new to the browsers.

`mixgrpo.progress`: {"run_id", "events": [new events], "more": whether older new ones are left out, "status": the run's
summary}. `mixgrpo.removed`: {"run_id"} of a run that is gone. A browser that wasn't there takes the snapshot from
GET /mixgrpo/runs and goes on from there. `mixgrpo.votes`: {"name"} of a set of votes that has changed.

Runs at work, and those that this server has changed, are looked at every round; of the others only the folders' time
stamps are, and rarely. Where a run has ended, the next one of those that wait is launched (turns.py).
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...mixgrpo_engine.records.run_folder import RunFolder
from ..comfy_types import PromptServer
from ..votes import news as votes_news
from . import event_lines, free_memory, launch, liveness, news, overview, paths, submit

EVENT = "mixgrpo.progress"
REMOVED = "mixgrpo.removed"
SECONDS = 0.5
SWEEP_SECONDS = 5.0
LIVENESS_SECONDS = 2.0
KEEP_SECONDS = 60.0
MOST_EVENTS = 200
MOST_BYTES = 2**18


@dataclass
class _Followed:
    """What is remembered of a run."""

    offset: int = 0  # how far its log has been passed on
    state: str | None = None
    stopping: bool = False  # it has had its last word, or was asked for it, and its process is still there
    changed: int = 0  # its folder's time stamp
    looked: float = 0.0  # when its state was last told
    complaint: str = ""


class Follower:
    def __init__(self, send: Callable[[str, dict[str, Any]], None], sweep_seconds: float = SWEEP_SECONDS) -> None:
        self._send = send
        self._sweep_seconds = sweep_seconds
        self._next_sweep = 0.0
        self._next_keep = time.monotonic() + KEEP_SECONDS
        self._runs: dict[str, _Followed] = {}
        self._moved = False  # whether a run has ended, or the like: another one's turn may have come
        self._complaint = ""

    def skip_the_past(self) -> None:
        """What was there before this server is in the snapshot already, whose summaries are made here."""
        until = time.monotonic() + event_lines.WORK_SECONDS
        for path, changed, summary in overview.all_runs():
            folder = RunFolder(path)
            followed = self._runs.setdefault(folder.name, _Followed())
            followed.offset = event_lines.size(folder.events)
            followed.changed, followed.state = changed, summary["state"]
            if time.monotonic() > until:  # the server is starting: it goes first
                time.sleep(2 * event_lines.WORK_SECONDS)
                until = time.monotonic() + event_lines.WORK_SECONDS
        overview.keep()

    def look(self) -> None:
        """One round."""
        launch.reap()
        for change in votes_news.take():
            self._send(votes_news.EVENT, change)
        told = news.take()
        wanted = told | {name for name, run in self._runs.items() if run.state in liveness.ACTIVE or run.stopping}
        if time.monotonic() >= self._next_sweep:
            self._next_sweep = time.monotonic() + self._sweep_seconds
            self._moved = True
            wanted |= self._sweep()
        if time.monotonic() >= self._next_keep:
            self._next_keep = time.monotonic() + KEEP_SECONDS
            overview.keep()
        for name in wanted:
            self._look_at(name, name in told)
        if self._moved:
            self._moved = False
            self._launch_waiting()

    def _launch_waiting(self) -> None:
        if not any(run.state == "queued" for run in self._runs.values()):
            return
        try:
            if submit.launch_waiting():
                free_memory.free_between_prompts()
            self._complaint = ""
        except (OSError, ValueError) as error:  # e.g. a setting of the owner's that is none
            if self._complaint != str(error):
                logging.warning("MixGRPO: couldn't start the runs that wait: %s", error)
            self._complaint = str(error)

    def _sweep(self) -> set[str]:
        """The runs whose folders have changed, come or gone, and those that may be mended in place."""
        try:
            with os.scandir(paths.runs_directory()) as entries:
                stamps = {entry.name: entry.stat().st_mtime_ns for entry in entries if paths.ID.fullmatch(entry.name)}
        except FileNotFoundError:
            stamps = {}
        wanted = self._runs.keys() - stamps.keys()
        for name, stamp in stamps.items():
            run = self._runs.get(name)
            if run is None or run.changed != stamp or run.state == liveness.UNREADABLE or run.complaint:
                wanted.add(name)
        return wanted

    def _look_at(self, name: str, told: bool) -> None:
        """A folder that can't be read, or is being deleted, doesn't end the following of all others."""
        folder = overview.find(name)
        if folder is None:
            if self._runs.pop(name, None):
                self._moved = True
                self._send(REMOVED, {"run_id": name})
            return
        run = self._runs.setdefault(name, _Followed())
        try:
            self._pass_on(folder, run, told)
            run.complaint = ""
        except (OSError, ValueError, RecursionError) as error:
            # Rounds are short: the same complaint once.
            if run.complaint != str(error):
                logging.warning("MixGRPO: couldn't follow run %s: %s", name, error)
            run.complaint = str(error)

    def _pass_on(self, folder: RunFolder, run: _Followed, told: bool) -> None:
        changed, size = _changed(folder.path), event_lines.size(folder.events)
        if size < run.offset:
            run.offset = 0  # another log under the old name
        new: list[dict] = []
        more = False
        if size > run.offset:
            new, run.offset, more = event_lines.newest(folder.events, run.offset, MOST_BYTES)
        # A worker that dies changes nothing.
        idle = not new and not told and changed == run.changed
        if idle and run.state is not None and time.monotonic() - run.looked < LIVENESS_SECONDS:
            return
        summary = overview.summary(folder)
        before = run.state, run.stopping
        run.state, run.changed, run.looked = summary["state"], changed, time.monotonic()
        # What can be done with it changes once more when its process is gone.
        run.stopping = run.state not in liveness.ACTIVE and "delete" not in summary["actions"]
        self._moved |= run.state != before[0]
        if new or told or (run.state, run.stopping) != before:
            more = more or len(new) > MOST_EVENTS
            message = {"run_id": folder.name, "events": new[-MOST_EVENTS:], "more": more, "status": summary}
            self._send(EVENT, message)


def start_with(server: PromptServer) -> None:
    """Starts following when the server's event loop starts."""

    async def start(_app: object) -> None:
        # The loop holds tasks only weakly.
        server.mixgrpo_follower = asyncio.create_task(_follow(Follower(server.send_sync)))

    server.app.on_startup.append(start)


async def _follow(follower: Follower) -> None:
    step = follower.skip_the_past
    while True:
        try:
            await asyncio.to_thread(step)
            step = follower.look
        except (OSError, ValueError) as error:
            # The runs' folder itself, e.g. on a drive that is away for a moment.
            logging.warning("MixGRPO: couldn't follow the runs this time: %s", error)
        await asyncio.sleep(SECONDS)


def _changed(path: os.PathLike) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except FileNotFoundError:
        return 0
