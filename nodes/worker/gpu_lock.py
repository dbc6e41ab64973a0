"""One training at a time on a machine's GPU: a lock taken before anything is loaded onto it."""

from __future__ import annotations

import hashlib
import os
import tempfile
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


def take(uses_gpu: bool, reporter: Reporter, stop: Stop) -> None:
    """Takes the lock if a GPU is used, for as long as this process lives. Waits for others with the stage "waiting".

    Raises StopRequested when the run is cancelled while it waits.
    """
    # Other people's trainings on this machine take the same one: everybody may lock it.
    lock = FileLock(os.environ.get(FORCE_VARIABLE) or _default_path(), mode=0o666)
    if not uses_gpu and not os.environ.get(FORCE_VARIABLE):
        return
    _held.append(lock)
    with suppress(Timeout):
        lock.acquire(timeout=0)
        return
    reporter.emit(Stage("waiting", "Another training uses the GPU: this one starts when it has ended."))
    while not lock.is_locked:
        stop.check()
        with suppress(Timeout):
            lock.acquire(timeout=LOOK_SECONDS)
    reporter.emit(Stage("boot", "Starting ComfyUI."))


def _default_path() -> Path:
    """One lock a device: ComfyUI computes on the first that it may see.

    The server has turned its own choice of a device (--cuda-device) into this variable.
    """
    return Path(tempfile.gettempdir()) / f"mixgrpo-gpu-{hashlib.sha256(gpu().encode()).hexdigest()[:12]}.lock"


def gpu() -> str:
    """The GPU that this process's ComfyUI computes on, as the environment calls it."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip() or "0"
