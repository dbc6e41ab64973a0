"""Asked to stop: by SIGTERM, or by a file named `cancel` in the run folder (the only way on Windows)."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator

from ...mixgrpo_engine.records.run_folder import RunFolder
from .errors import StopRequested


class Stop:
    def __init__(self, folder: RunFolder) -> None:
        self._file = folder.cancel_file
        self._signalled = False
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
        finally:
            self._interrupt = None

    def requested(self) -> bool:
        return self._signalled or self._file.exists()

    def check(self) -> None:
        """Raises StopRequested if so."""
        if self.requested():
            raise StopRequested

    def _on_signal(self, *_: object) -> None:
        self._signalled = True
        if self._interrupt:
            self._interrupt()
