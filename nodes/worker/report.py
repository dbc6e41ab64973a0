"""The worker's word to the world: every event into events.jsonl, what matters of it into status.json."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ...mixgrpo_engine.records import run_status
from ...mixgrpo_engine.records.events import Event
from ...mixgrpo_engine.records.run_folder import RunFolder
from ..runs import process

# Not the root logger: its shortcuts would set up logging before ComfyUI does, and every line would come twice.
LOG = logging.getLogger("mixgrpo")


class Reporter:
    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._before_done: list[Callable[[], dict]] = []

    @property
    def checkpoint(self) -> int:
        """How many iterations the last checkpoint holds: those after it are lost when a worker is killed."""
        return int(self.folder.status().get("checkpoint") or 0)

    def start(self) -> None:
        """This process is the run's worker now."""
        self.folder.set_status(state="running", message="", **process.identity())

    def before_done(self, action: Callable[[], dict]) -> None:
        """What must have worked before the run may call itself finished; returns fields for status.json."""
        self._before_done.append(action)

    def emit(self, event: Event) -> None:
        fields = run_status.fields_of(event)
        if event.type == "done":
            for action in self._before_done:
                fields.update(action())
        self.folder.emit(event)
        if fields:
            self.folder.set_status(**fields)
        _log(event)


def _log(event: Event) -> None:
    text = {key: value for key, value in event.as_dict().items() if key not in ("type", "time", "traceback")}
    LOG.log(logging.ERROR if event.type == "failed" else logging.INFO, "[%s] %s", event.type, text)
