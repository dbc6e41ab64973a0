"""Follows the event logs of all runs and passes what is new to the browsers, as `mixgrpo.progress`.

Message: {"run_id", "events": [new events], "status": the run's summary}. A browser that wasn't there takes the
snapshot from GET /mixgrpo/runs and goes on from there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...mixgrpo_engine.records import events
from ...mixgrpo_engine.records.run_folder import RunFolder
from ..comfy_types import PromptServer
from . import launch, liveness, overview

EVENT = "mixgrpo.progress"
SECONDS = 0.5


class Follower:
    """Remembers how far each log has been passed on, and each run's last known state."""

    def __init__(self, send: Callable[[str, dict[str, Any]], None]) -> None:
        self._send = send
        self._offsets: dict[str, int] = {}
        self._states: dict[str, str] = {}
        self._complaints: dict[str, str] = {}

    def skip_the_past(self) -> None:
        """What was there before this server is in the snapshot already."""
        self._each(self._skip)

    def look(self) -> None:
        """One round over all runs."""
        launch.reap()
        self._each(self._look_at)

    def _each(self, action: Callable[[RunFolder], None]) -> None:
        """A folder that can't be read, or is being deleted, doesn't end the following of all others."""
        folders = overview.all_runs()
        self._forget_all_but({folder.name for folder in folders})
        for folder in folders:
            try:
                action(folder)
                self._complaints.pop(folder.name, None)
            except (OSError, ValueError, RecursionError) as error:
                # Rounds are short: the same complaint once.
                if self._complaints.get(folder.name) != str(error):
                    logging.warning("MixGRPO: couldn't follow run %s: %s", folder.name, error)
                self._complaints[folder.name] = str(error)

    def _skip(self, folder: RunFolder) -> None:
        self._offsets[folder.name] = _size(folder.events)
        self._states[folder.name] = liveness.state_of(folder)

    def _look_at(self, folder: RunFolder) -> None:
        new = self._new_events(folder)
        known = self._states.get(folder.name)
        # A state that only the disk knows changes without an event when a worker dies; ended runs stay ended.
        ended = None if known in (*liveness.ACTIVE, liveness.UNREADABLE) else known
        now = liveness.state_of(folder) if new or ended is None else ended
        self._states[folder.name] = now
        if new or now != known:
            self._send(EVENT, {"run_id": folder.name, "events": new, "status": overview.summary(folder)})

    def _new_events(self, folder: RunFolder) -> list[dict]:
        offset, size = self._offsets.get(folder.name, 0), _size(folder.events)
        if size < offset:
            # Another log under the old name.
            offset = 0
        # The logs of ended runs are many: their size tells that there is nothing to read.
        new, self._offsets[folder.name] = events.read(folder.events, offset) if size > offset else ([], offset)
        return new

    def _forget_all_but(self, present: set[str]) -> None:
        for memory in (self._offsets, self._states, self._complaints):
            for gone in memory.keys() - present:
                del memory[gone]


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


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
