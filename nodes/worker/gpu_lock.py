"""One training at a time on each of a machine's GPUs: locks taken before anything is loaded onto them."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ...mixgrpo_engine.records.events import Stage
from .report import Reporter
from .stop import Stop

FORCE_VARIABLE = "MIXGRPO_GPU_LOCK"
"""Set to a file's path, that file is the lock, with or without a GPU: for several machines' shared GPU, and tests."""

LOOK_SECONDS = 0.5

_held: list[FileLock] = []
"""Until the process ends: its memory on the GPU is free only then, and a lock that nobody holds on to is released."""


def take(gpus: Iterable[str], reporter: Reporter, stop: Stop) -> None:
    """Takes the locks of some GPUs for as long as this process lives. Waits for others with the stage "waiting".

    Raises StopRequested when the run is cancelled while it waits.
    """
    forced = os.environ.get(FORCE_VARIABLE)
    # Everybody takes them in the same order: two trainings never wait for each other.
    paths = [forced] if forced else [_default_path(gpu) for gpu in sorted(set(gpus))]
    # Other people's trainings on this machine take the same ones: everybody may lock them.
    locks = [FileLock(path, mode=0o666) for path in paths]
    _held.extend(locks)
    waits = False
    for lock in locks:
        with suppress(Timeout):
            lock.acquire(timeout=0)
        while not lock.is_locked:
            if not waits:
                waits = True
                reporter.emit(Stage("waiting", "Another training uses the GPU: this one starts when it has ended."))
            stop.check()
            with suppress(Timeout):
                lock.acquire(timeout=LOOK_SECONDS)
    if waits:
        reporter.emit(Stage("boot", "Starting ComfyUI."))


def _default_path(gpu: str) -> Path:
    """One lock a device."""
    return Path(tempfile.gettempdir()) / f"mixgrpo-gpu-{hashlib.sha256(gpu.encode()).hexdigest()[:12]}.lock"
