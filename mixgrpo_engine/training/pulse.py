"""A run's signs of life, and its ear for the wish to stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..records.events import Event, Notice, Progress

PROGRESS_SECONDS = 5.0
FAILURES_IN_A_ROW = 3  # of a scorer on whole iterations, or of gradients, before the run gives up


class Stopped(Exception):
    """Raised inside an iteration when the run is asked to stop; the iteration counts as not begun."""


class Pulse:
    """What the parts of an iteration tell the world, and ask it, between model calls."""

    def __init__(self, emit: Callable[[Event], None], should_stop: Callable[[], bool], iterations: int) -> None:
        self.emit, self.should_stop, self.iterations = emit, should_stop, iterations
        self.iteration = 0  # how many are finished
        self._failures: dict[str, int] = {}  # what -> how often in a row
        self._last_progress = time.monotonic()

    def raise_if_stopped(self) -> None:
        if self.should_stop():
            raise Stopped

    def progress(self, phase: str, done: int, total: int) -> None:
        """Tells that the run is alive, at most every few seconds."""
        now = time.monotonic()
        if now - self._last_progress >= PROGRESS_SECONDS:
            self._last_progress = now
            self.emit(Progress(self.iteration, self.iterations, phase, done, total))

    def notice(self, message: str) -> None:
        self.emit(Notice(self.iteration, message))

    @contextmanager
    def for_people(self, what: str) -> Iterator[None]:
        """What is written inside is for people only: where it can't be, that costs a notice, not the training."""
        try:
            yield
        except (OSError, KeyError) as error:  # a full disk, a file that is open elsewhere, a Pillow without webp
            if what not in self._failures:
                self.notice(f"{what} can't be written ({error}): the training goes on without.")
            self._failures[what] = 1

    def tolerate(self, what: str, failed: bool, message: str, times: int = FAILURES_IN_A_ROW) -> None:
        """Tells of a failure the first times, and raises RuntimeError when `what` fails `times` times in a row."""
        count = self._failures[what] = self._failures.get(what, 0) + 1 if failed else 0
        if count >= times:
            raise RuntimeError(f"{message} This happened {count} times in a row.")
        if failed:
            self.notice(message)
