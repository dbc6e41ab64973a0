"""Follows the event logs of all runs and passes what is new to the browsers, as `mixgrpo.progress`.

Message: {"run_id", "events": [new events], "status": the run's summary}. A browser that wasn't there takes the
snapshot from GET /mixgrpo/runs and goes on from there.
"""

from __future__ import annotations

import asyncio
import logging

from ...mixgrpo_engine import events
from . import launch, state

EVENT = "mixgrpo.progress"
SECONDS = 0.5


class Follower:
    """Remembers how far each log has been passed on, and each run's last known state."""

    def __init__(self, send):
        self._send = send
        self._offsets: dict[str, int] = {}
        self._states: dict[str, str] = {}

    def skip_the_past(self) -> None:
        """What was there before this server is in the snapshot already."""
        for folder in state.runs():
            self._offsets[folder.name] = _size(folder.events)
            self._states[folder.name] = state.state(folder)

    def look(self) -> None:
        """One round over all runs."""
        launch.reap()
        for folder in state.runs():
            new, self._offsets[folder.name] = events.read(folder.events, self._offsets.get(folder.name, 0))
            known = self._states.get(folder.name)
            # A state that only the disk knows changes without an event when a worker dies; ended runs stay ended.
            now = state.state(folder) if new or known is None or known in state.ACTIVE else known
            self._states[folder.name] = now
            if new or now != known:
                self._send(EVENT, {"run_id": folder.name, "events": new, "status": state.summary(folder)})


def start_with(server) -> None:
    """Starts following when the server's event loop starts."""

    async def start(_app) -> None:
        # The loop holds tasks only weakly.
        server.mixgrpo_follower = asyncio.create_task(_follow(Follower(server.send_sync)))

    server.app.on_startup.append(start)


async def _follow(follower: Follower) -> None:
    await asyncio.to_thread(follower.skip_the_past)
    while True:
        await asyncio.sleep(SECONDS)
        try:
            await asyncio.to_thread(follower.look)
        except (OSError, ValueError) as error:
            # A folder that is being deleted or edited by hand must not end the following of all others.
            logging.warning("MixGRPO: couldn't follow the runs this time: %s", error)


def _size(path) -> int:
    return path.stat().st_size if path.exists() else 0
