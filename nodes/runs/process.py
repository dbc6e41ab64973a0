"""Which process is meant: a pid alone is reused by the system, a pid with its creation time isn't."""

from __future__ import annotations

import contextlib
import os

import psutil


def identity(pid: int | None = None) -> dict:
    """{"pid", "pid_created"} of a process, by default this one. Empty when it is gone already."""
    try:
        process = psutil.Process(pid or os.getpid())
        return {"pid": process.pid, "pid_created": process.create_time()}
    except psutil.NoSuchProcess:
        return {}


def is_alive(who: dict) -> bool:
    """True while the process of this identity() runs; a zombie doesn't."""
    process = _process(who)
    try:
        return process is not None and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def terminate(who: dict) -> None:
    """Asks the process to stop (SIGTERM), if it is still the one that is meant.

    On Windows terminating would kill: there the run's cancel file is the only way, and it is enough.
    """
    process = _process(who)
    if process is not None and os.name != "nt":
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()


def _process(who: dict) -> psutil.Process | None:
    if not who.get("pid"):
        return None
    try:
        process = psutil.Process(who["pid"])
        # The clock that creation times come from may be adjusted by a fraction of a second.
        return process if abs(process.create_time() - who.get("pid_created", 0.0)) < 1.0 else None
    except psutil.Error:
        return None
