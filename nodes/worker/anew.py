"""A worker starts again with more packs when a node fails that may have looked for another pack's node.

Such a loader works in the server, where all packs are loaded, and would fail in a worker that has the graph's only.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from typing import IO

from ...mixgrpo_engine.records.events import Notice
from .. import owner_settings
from ..runs import packs
from .errors import GraphError
from .report import Reporter

# Of this process as it was started: ComfyUI's packs may change both.
FOLDER, ENVIRONMENT = os.getcwd(), dict(os.environ)


def wider(orders: dict, error: BaseException, reporter: Reporter) -> dict | None:
    """The orders with more packs in them, and a notice that tells it; None when more wouldn't help.

    First the packs whose node types were looked for in vain, then all: but of ComfyUI's own files nothing else than
    their node types needs to be loaded by others.
    """
    if not isinstance(error, GraphError):
        return None
    others = orders["others"]
    more = {name for name, kinds in others.items() if error.missing & set(kinds)}
    every = {name for name in others if not name.startswith(packs.BUILT_IN)}
    if error.lookup and not more:
        more = every
    if not more:
        return None
    names = "all packs" if more == every and len(more) > 3 else ", ".join(sorted(more))
    reporter.emit(
        Notice(
            reporter.checkpoint,
            f"{str(error)[:300].rstrip('.')}. So far the worker had the packs of the graph's nodes; it starts again "
            f"with {names}, too. What is named in {packs.SETTING} is loaded at once "
            f"({owner_settings.how_to_set(packs.SETTING)}).",
        )
    )
    rest = {name: kinds for name, kinds in others.items() if name not in more}
    return {**orders, "packs": sorted({*orders["packs"], *more}), "others": rest}


def prepare(orders: dict, error: BaseException, reporter: Reporter) -> IO[bytes] | None:
    """What start() takes, in a file that nobody else can open. None when it wouldn't help, or the disk takes none."""
    if told := wider(orders, error, reporter):
        with suppress(OSError):
            file = tempfile.TemporaryFile()  # noqa: SIM115 - start() hands it on
            file.write(json.dumps(told).encode())
            file.seek(0)
            return file
    return None


def start(orders: IO[bytes]) -> int:
    """This process begins anew under its own id, so that all of its memory is free; the exit code where it can't.

    On Windows a process can't be replaced: there this one waits for the new one.
    """
    command = [sys.executable, *sys.orig_argv[1:]]
    if os.name == "nt":
        return subprocess.run(command, stdin=orders, cwd=FOLDER, env=ENVIRONMENT).returncode
    os.chdir(FOLDER)
    os.dup2(orders.fileno(), 0)
    with suppress(OSError):  # a GPU that stays open would keep its memory
        for name in os.listdir("/dev/fd"):
            if int(name) > 2:
                with suppress(OSError):
                    os.set_inheritable(int(name), False)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.execve(sys.executable, command, ENVIRONMENT)
