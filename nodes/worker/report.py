"""The worker's word to the world: every event into events.jsonl, what matters of it into status.json."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ...mixgrpo_engine.records import log_limits, run_status
from ...mixgrpo_engine.records.events import Event
from ...mixgrpo_engine.records.files import remove
from ...mixgrpo_engine.records.run_folder import RunFolder
from ..runs import process

# Not the root logger: its shortcuts would set up logging before ComfyUI does, and every line would come twice.
LOG = logging.getLogger("mixgrpo")


LAST_WORDS = ("done", "cancelled", "failed")
LONG_LIST = 8
RESERVE = 2**16
"""Bytes that are given up for the last word on a full disk."""


class Reporter:
    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._reserve = folder.path / ".reserve"
        self.ended = False  # whether the last word was told
        self.lock = threading.RLock()  # who holds it while something is told tells alone: see watchdog.py
        self._before: dict[str, list[Callable[[Any], dict]]] = {}
        self._after: list[Callable[[Event], None]] = []

    @property
    def checkpoint(self) -> int:
        """How many iterations the last checkpoint holds: those after it are lost when a worker is killed."""
        return int(self.folder.status().get("checkpoint") or 0)

    def start(self) -> None:
        """This process is the run's worker now."""
        self.folder.set_status(state="running", message="", **process.identity())
        with suppress(OSError), open(self._reserve, "wb") as file:
            file.write(os.urandom(RESERVE))  # which no file system makes smaller
            os.fsync(file.fileno())

    def before(self, kind: str, action: Callable[[Any], dict]) -> None:
        """What must have worked before events of this type are told; action(event) returns fields for status.json."""
        self._before.setdefault(kind, []).append(action)

    def after(self, action: Callable[[Event], None]) -> None:
        """What gets every event once it has been told."""
        self._after.append(action)

    def emit(self, event: Event) -> None:
        with self.lock:
            try:
                self._emit(event)
            except OSError:
                if event.type not in ("cancelled", "failed"):
                    raise
                remove(self._reserve)
                self._emit(event)
            if event.type in LAST_WORDS:
                self.ended = True
                remove(self._reserve)
        for action in self._after:
            action(event)

    def _emit(self, event: Event) -> None:
        done: dict = {}
        for action in self._before.get(event.type, ()):
            done |= action(event)
        self.folder.emit(event)
        fields = run_status.fields_of(event, self.folder.status()) | done
        if fields:
            self.folder.set_status(**fields)
        _log(event)
        log_limits.cut(self.folder.log)


def _log(event: Event) -> None:
    told = {key: value for key, value in event.as_dict().items() if key not in ("type", "time", "traceback")}
    LOG.log(logging.ERROR if event.type == "failed" else logging.INFO, "[%s] %s", event.type, words(told))


def words(told: dict) -> str:
    """What an event tells, for people. Long lists, such as a sample's images, and all digits are in events.jsonl."""

    def word(value: object) -> str:
        if isinstance(value, float):
            return f"{value:.4g}"
        if isinstance(value, (list, tuple)):
            return f"{len(value)} of them" if len(value) > LONG_LIST else " ".join(map(word, value))
        return f"({words(value)})" if isinstance(value, dict) else str(value)

    return ", ".join(f"{name} {word(value)}" for name, value in told.items())
