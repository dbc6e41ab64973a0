"""Ends a worker that was asked to stop and doesn't: a scorer or a model that never returns can't be asked."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from ...mixgrpo_engine.records.events import Cancelled
from .report import LOG, Reporter
from .stop import Stop

SILENT_SECONDS = 300.0
"""Update steps and checkpoints are finished first, however long they take, unless they never return either."""

LOOK_SECONDS = 0.5


class Watchdog:
    def __init__(self, reporter: Reporter, stop: Stop, seconds: float, tidy_up: Callable[[], None]) -> None:
        """tidy_up: what else is to be done before the process ends."""
        self.reporter, self.stop, self.seconds, self._tidy_up = reporter, stop, seconds, tidy_up

    def start(self) -> None:
        threading.Thread(target=self._watch, name="mixgrpo-watchdog", daemon=True).start()

    def _watch(self) -> None:
        since: float | None = None  # when the wait began
        busy: float | None = None  # when what has to be finished first was seen first
        while True:
            time.sleep(LOOK_SECONDS)
            now = time.monotonic()
            if self.reporter.ended or self.stop.wished():
                since = since or now
            if self.stop.finishing():
                busy = busy or now
                # What follows has all of its time again.
                since = since and (now if now - busy < SILENT_SECONDS else since)
            else:
                busy = None
            if since and now - since > self.seconds:
                self._end()

    def _end(self) -> None:
        """Ends the process, with a last word unless there is one; what is on the disk stays as it is."""
        if not self.reporter.lock.acquire(timeout=LOOK_SECONDS):
            return  # something is being told: the next look decides
        try:
            if not self.reporter.ended:
                self.reporter.emit(Cancelled(self.reporter.checkpoint, self._last_word()))
            self._tidy_up()
            LOG.warning("The process of the run is ended: it didn't end by itself within %g s.", self.seconds)
        finally:  # also where the disk takes no last word
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError):
                    stream.flush()
            os._exit(0)

    def _last_word(self) -> str:
        kept = self.reporter.checkpoint
        what = f"its checkpoint holds {kept} iterations" if kept else "there was no checkpoint yet"
        return f"Cancelled: what was at work didn't end within {self.seconds:g} s, so the process was ended; {what}."
