"""Which process is meant: a pid alone is reused by the system, and what a file in a run folder says may be forged.

So a process counts as a run's worker only with its creation time and with a command line that is that run's worker's.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import psutil

SCRIPT = ("worker", "entry.py")
"""The end of the path of the worker's script."""


def python() -> list[str]:
    """This process's Python for a command line, with what it was told to leave out: users' own packages, above all.

    Portable ComfyUI starts with -s.
    """
    left_out = {"isolated": "I", "ignore_environment": "E", "no_user_site": "s", "safe_path": "P"}
    flags = "".join(letter for name, letter in left_out.items() if getattr(sys.flags, name, False))
    # UTF-8 as a flag: the variable isn't looked at with -E.
    return [sys.executable, *([f"-{flags}"] if flags else []), "-X", "utf8", "-u"]


def identity(pid: int | None = None) -> dict:
    """{"pid", "pid_created"} of a process, by default this one. Empty when it is gone already."""
    try:
        process = psutil.Process(pid or os.getpid())
        return {"pid": process.pid, "pid_created": process.create_time()}
    except psutil.NoSuchProcess:
        return {}


def is_alive(who: dict, run: Path | None = None) -> bool:
    """True while the process of this identity() runs, as the worker of this run folder if one is given.

    A zombie doesn't run.
    """
    process = _same(who) if run is None else _worker(who, run)
    try:
        return process is not None and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def terminate(who: dict, run: Path) -> None:
    """Asks the process to stop (SIGTERM), if it is the worker of this run folder.

    On Windows terminating would kill: there the run's cancel file is the only way, and it is enough.
    """
    process = _worker(who, run)
    if process is not None and os.name != "nt":
        with contextlib.suppress(psutil.Error):
            process.terminate()


def _worker(who: dict, run: Path) -> psutil.Process | None:
    process = _same(who)
    try:
        command = process.cmdline() if process else []
        # Empty while it begins anew (worker/anew.py): the system takes its old memory away first.
        return process if not command or _works_on(command, run) else None
    except psutil.Error:
        return None


def _same(who: dict) -> psutil.Process | None:
    pid, created = who.get("pid"), who.get("pid_created")
    if type(pid) is not int or pid < 1 or not isinstance(created, (int, float)):
        return None
    try:
        process = psutil.Process(pid)
        # The clock that creation times come from may be adjusted by a fraction of a second.
        return process if abs(process.create_time() - created) < 1.0 else None
    except (psutil.Error, OverflowError):
        return None


def _works_on(command: list[str], run: Path) -> bool:
    paths = [Path(part) for part in command]
    is_entry = any(path.parts[-2:] == SCRIPT for path in paths)
    return is_entry and paths[-1].resolve() == run.resolve()
