"""A training in several processes: accelerate starts them, each is a worker of its own, and the first one speaks.

The worker that the server starts only launches them and waits. Rank 0 holds the run's lock and writes its files; the
others are silent, and leave a file behind when they fail, so that the run can say why.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from ...mixgrpo_engine.records.events import Cancelled, Event, Failed
from ...mixgrpo_engine.records.files import read_json, write_json
from ...mixgrpo_engine.records.run_folder import RunFolder
from ..runs import stored
from .errors import OthersEnded, StopRequested, failure_of
from .report import LOG, Reporter
from .stop import Stop

ORDERS_VARIABLE = "MIXGRPO_RANK_ORDERS"
"""The server's orders, for the ranks: they share one stdin, which none of them could read for itself."""

ENDED = ("finished", "failed", "cancelled")


def is_rank() -> bool:
    """Whether this process was started by start_and_wait()."""
    return ORDERS_VARIABLE in os.environ


def index() -> int:
    return int(os.environ.get("RANK", "0")) if is_rank() else 0


def wanted(folder: RunFolder) -> int:
    """How many processes the run's job asks for."""
    return int(stored.job(folder)["config"]["run"].get("processes", 1))


def orders() -> dict:
    """Taken out of the environment, so that no other program that is started from here gets them."""
    return json.loads(os.environ[ORDERS_VARIABLE])


def start_and_wait(folder: RunFolder, told: dict) -> int:
    """Starts the run's processes with accelerate and returns the exit code when all have ended."""
    stop = Stop(folder)
    stop.listen()
    launcher = subprocess.Popen(_command(folder, wanted(folder)), env={**os.environ, ORDERS_VARIABLE: json.dumps(told)})
    while True:
        try:
            code = launcher.wait(timeout=0.5)
            break
        except subprocess.TimeoutExpired:
            if stop.requested():
                folder.cancel_file.touch()  # the ranks look for it between model calls
    if folder.status()["state"] not in ENDED:
        reporter, failed = Reporter(folder), first_failure(folder)
        if failed is None and stop.requested():
            reporter.emit(Cancelled(reporter.checkpoint, _cancelled(reporter)))
        else:
            silent = f"A process of the training ended without a word (code {code}; killed, or out of memory)."
            reporter.emit(failed or Failed(silent))
    return 1 if folder.status()["state"] == "failed" else 0


def _cancelled(reporter: Reporter) -> str:
    """For a cancelled run whose first process had no last word."""
    if reporter.checkpoint:
        return f"Cancelled, its checkpoint holds {reporter.checkpoint} iterations."
    began = reporter.folder.status().get("iteration")
    return "Cancelled before its first checkpoint." if began else "Cancelled while its processes were starting."


def follow(folder: RunFolder, work: Callable[[SilentReporter, Stop, Path], None]) -> int:
    """The life of a rank that isn't the first: it works, and says nothing unless it fails."""
    stop = Stop(folder, one_of_several=True)
    stop.listen()
    scratch = folder.path / f"temp-{index()}"
    try:
        work(SilentReporter(folder), stop, scratch)
    except StopRequested:
        return 0
    except OthersEnded:
        return 1
    except BaseException as error:  # the process's outermost frame: whatever it is, the run says it
        failed = failure_of(error)
        LOG.error("Process %d of the run failed.\n%s", index(), failed.traceback)
        failed.message = f"Process {index()}: {failed.message}"
        write_json(_failure_file(folder, index()), failed.as_dict())
        return 1
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return 0


def forget_failures(folder: RunFolder) -> None:
    """Of an earlier start of the run."""
    for path in folder.path.glob("rank-*.json"):
        path.unlink()


def first_failure(folder: RunFolder) -> Failed | None:
    """Of the rank other than the first that failed before all others, if one has."""
    paths = sorted(folder.path.glob("rank-*.json"), key=lambda path: path.stat().st_mtime)
    if not paths:
        return None
    told = read_json(paths[0])
    return Failed(told["message"], told.get("traceback", ""), told.get("node_id", ""))


def choose_device(uses_gpu: bool) -> None:
    """Each rank computes on its own GPU: ComfyUI takes the current one."""
    if uses_gpu and is_rank():
        import torch

        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))


class SilentReporter(Reporter):
    """Of a rank that isn't the first."""

    def start(self) -> None:
        """Rank 0 is the run's worker."""

    def emit(self, event: Event) -> None:
        """Rank 0 tells it."""


def _command(folder: RunFolder, count: int) -> list[str]:
    entry = Path(__file__).with_name("entry.py")
    settings = {
        "num_processes": count, "num_machines": 1, "mixed_precision": "no", "dynamo_backend": "no",
        "main_process_port": 0,
    }  # fmt: skip
    options = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    launch = [sys.executable, "-u", "-m", "accelerate.commands.launch", "--multi_gpu", *options]
    return [*launch, str(entry), str(folder.path)]


def _failure_file(folder: RunFolder, rank: int) -> Path:
    return folder.path / f"rank-{rank}.json"
