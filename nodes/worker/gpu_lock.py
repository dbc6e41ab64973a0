"""One training at a time on a machine's GPU: a lock taken before anything is loaded onto it."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from ...mixgrpo_engine.records.events import Stage
from ..runs.locks import FileLock
from .errors import StopRequested
from .report import Reporter
from .stop import Stop

FORCE_VARIABLE = "MIXGRPO_GPU_LOCK"
"""Set to a file's path, that file is the lock, with or without a GPU: for several machines' shared GPU, and tests."""

A_DAY = 86400.0


def take(uses_gpu: bool, reporter: Reporter, stop: Stop) -> FileLock:
    """The lock, held if a GPU is used. Waits for other workers with the stage "waiting".

    Raises StopRequested when the run is cancelled while it waits.
    """
    path = os.environ.get(FORCE_VARIABLE) or _default_path()
    lock = FileLock(path)
    if not uses_gpu and not os.environ.get(FORCE_VARIABLE):
        return lock
    if lock.acquire():
        return lock
    reporter.emit(Stage("waiting", "Another training uses the GPU: this one starts when it has ended."))
    while not lock.acquire(timeout=A_DAY, give_up=stop.requested):
        if stop.requested():
            raise StopRequested
    reporter.emit(Stage("boot", "Starting ComfyUI."))
    return lock


def _default_path() -> Path:
    """One lock a device: ComfyUI computes on the first that it may see.

    The server has turned its own choice of a device (--cuda-device) into this variable.
    """
    device = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip() or "0"
    return Path(tempfile.gettempdir()) / f"mixgrpo-gpu-{hashlib.sha256(device.encode()).hexdigest()[:12]}.lock"
