"""Asked to stop: by SIGTERM, or by a file named `cancel` in the run folder (the only way on Windows)."""

from __future__ import annotations

import signal
from collections.abc import Callable

from ...mixgrpo_engine.run_folder import RunFolder
from .errors import StopRequested


class Stop:
    def __init__(self, folder: RunFolder):
        self._file = folder.cancel_file
        self._signalled = False
        self._callbacks: list[Callable[[], None]] = []

    def listen(self) -> None:
        """Turns SIGTERM and Ctrl-C into a request to stop."""
        for name in ("SIGTERM", "SIGINT"):
            signal.signal(getattr(signal, name), self._on_signal)

    def on_stop(self, callback: Callable[[], None]) -> None:
        """Called when a signal asks to stop, e.g. to interrupt ComfyUI in the middle of a node."""
        self._callbacks.append(callback)

    def requested(self) -> bool:
        return self._signalled or self._file.exists()

    def check(self) -> None:
        """Raises StopRequested if so."""
        if self.requested():
            raise StopRequested

    def _on_signal(self, *_) -> None:
        self._signalled = True
        for callback in self._callbacks:
            callback()
