"""Asked to stop: by SIGTERM, or by a file named `cancel` in the run folder (the only way on Windows, and for ranks)."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator

from ...mixgrpo_engine.records.run_folder import RunFolder
from .errors import OthersEnded, StopRequested

FILE_SECONDS = 3.0
"""Who signals all processes at once, as a machine that shuts down, reaches one before the launcher's `cancel` file."""


class Stop:
    def __init__(self, folder: RunFolder, one_of_several: bool = False) -> None:
        """one_of_several: a wish to stop comes with the file; a signal alone says that another process has ended."""
        self._file, self._one_of_several = folder.cancel_file, one_of_several
        self._signalled = 0.0  # when
        self.finishing: Callable[[], bool] = lambda: False
        """Whether something is at work that a stop waits for."""
        self._interrupt: Callable[[], None] | None = None

    def listen(self) -> None:
        """Turns SIGTERM and Ctrl-C into a request to stop."""
        for name in ("SIGTERM", "SIGINT"):
            signal.signal(getattr(signal, name), self._on_signal)

    @contextlib.contextmanager
    def calling(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """Inside it a signal also calls `interrupt`, to end ComfyUI in the middle of a node.

        Not during the training: ComfyUI's layers would raise in the middle of an update, and what the adapter is
        then belongs to no iteration. The trainer asks requested() between its model calls instead.
        """
        self._interrupt = interrupt
        try:
            yield
        except StopRequested:
            self.check()  # who interrupted ComfyUI?
            raise
        finally:
            self._interrupt = None

    def wished(self) -> bool:
        """As requested(), for who only watches: another process's end is no wish."""
        return self._file.exists() or (bool(self._signalled) and not self._one_of_several)

    def requested(self) -> bool:
        """Raises OthersEnded in one of several processes when another one has ended."""
        if self._file.exists():
            return True
        if self._signalled and self._one_of_several:
            while time.monotonic() < self._signalled + FILE_SECONDS:
                if self._file.exists():
                    return True
                time.sleep(0.05)
            raise OthersEnded
        return bool(self._signalled)

    def check(self) -> None:
        """Raises StopRequested if so."""
        if self.requested():
            raise StopRequested

    def _on_signal(self, *_: object) -> None:
        self._signalled = self._signalled or time.monotonic()
        if self._interrupt:
            self._interrupt()
