"""A training in several processes: accelerate starts them, each is a worker of its own, and the first one speaks.

The worker that the server starts only launches them and waits. Rank 0 holds the run's lock and writes its files; the
others are silent, and leave a file behind when they fail, so that the run can say why.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from ...mixgrpo_engine.records.events import Cancelled, Event, Failed
from ...mixgrpo_engine.records.files import read_json, remove, write_json
from ...mixgrpo_engine.records.run_folder import RunFolder
from ..runs import process, stored
from . import anew
from .errors import GraphError, OthersEnded, StopRequested, failure_of
from .report import LOG, Reporter
from .stop import Stop
from .watchdog import Watchdog

ORDERS_VARIABLE = "MIXGRPO_RANK_ORDERS"
"""The server's orders, for the ranks: they share one stdin, which none of them could read for itself."""

START_VARIABLE = "MIXGRPO_RANK_START"
"""Which start of the run a rank belongs to. It stays: what ComfyUI loads of the pack is another copy of this module."""

LOST = re.compile(r"gloo|nccl|tcpstore|connection (was )?(closed|reset)", re.IGNORECASE)
"""In what torch says when another process has gone: that one has the reason."""

SILENT = "A process of the training ended without a word ({}killed, or out of memory)."

ENDED = ("finished", "failed", "cancelled")

Value = TypeVar("Value")


def is_rank() -> bool:
    """Whether this process was started by start_and_wait()."""
    return START_VARIABLE in os.environ


def index() -> int:
    return int(os.environ.get("RANK", "0")) if is_rank() else 0


def wanted(folder: RunFolder) -> int:
    """How many processes the run's job asks for."""
    return int(stored.job(folder)["config"]["run"].get("processes", 1))


def orders() -> dict:
    """Taken out of the environment, so that no other program that is started from here gets them."""
    return json.loads(os.environ.pop(ORDERS_VARIABLE))


def start_and_wait(folder: RunFolder, told: dict) -> int:
    """Starts the run's processes with accelerate and returns the exit code when all have ended."""
    stop = Stop(folder)
    stop.listen()
    while isinstance(ended := _start_and_wait(folder, told, stop), dict):
        told = ended
    return ended


def _start_and_wait(folder: RunFolder, told: dict, stop: Stop) -> int | dict:
    """The orders with which to start again, when those don't do: see anew.py."""
    forget_failures(folder)
    start = uuid.uuid4().hex
    # What isn't loaded is of no use there, and a variable holds only so much.
    environment = {**os.environ, ORDERS_VARIABLE: json.dumps({**told, "others": {}}), START_VARIABLE: start}
    launcher = subprocess.Popen(_command(folder, wanted(folder)), env=environment)
    while True:
        try:
            code = launcher.wait(timeout=0.5)
            break
        except subprocess.TimeoutExpired:
            if stop.requested() and _is_launcher(folder):
                folder.cancel_file.touch()  # the ranks look for it between model calls
    if not _is_launcher(folder):
        return 1  # the run had its last word and is at work again: it isn't this process's any more
    if folder.status()["state"] not in ENDED:
        reporter, failed = Reporter(folder), first_failure(folder, start)
        if failed is None and stop.requested():
            reporter.emit(Cancelled(reporter.checkpoint, _cancelled(reporter)))
        elif again := None if stop.requested() else anew.wider(told, missed(folder, start), reporter):
            return again
        else:
            reporter.emit(failed or Failed(SILENT.format(f"code {code}; ")))
    return 1 if folder.status()["state"] == "failed" else 0


def _is_launcher(folder: RunFolder) -> bool:
    """Whether the process that the server started last for the run is this one."""
    for _ in range(5):  # another start removes that file and writes it again
        if who := stored.launch(folder):
            # On Windows a virtual environment's Python is the parent of the one that runs.
            return who.get("pid") in (os.getpid(), os.getppid())
        time.sleep(0.2)
    return True


def _cancelled(reporter: Reporter) -> str:
    """For a cancelled run whose first process had no last word."""
    if reporter.checkpoint:
        return f"Cancelled, its checkpoint holds {reporter.checkpoint} iterations."
    began = reporter.folder.status().get("iteration")
    return "Cancelled before its first checkpoint." if began else "Cancelled while its processes were starting."


def follow(folder: RunFolder, stop_seconds: float, work: Callable[[SilentReporter, Stop, Path], None]) -> int:
    """The life of a rank that isn't the first: it works, and says nothing unless it fails."""
    reporter, stop = SilentReporter(folder), Stop(folder, one_of_several=True)
    stop.listen()
    scratch = folder.path / f"temp-{index()}"
    # A little later than the first one's, which has the last word.
    Watchdog(reporter, stop, stop_seconds + 3.0, lambda: shutil.rmtree(scratch, ignore_errors=True)).start()
    try:
        work(reporter, stop, scratch)
    except StopRequested:
        return 0
    except OthersEnded:
        return 1
    except BaseException as error:  # the process's outermost frame: whatever it is, the run says it
        leave_failure(folder, error)
        return 1
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return 0


def leave_failure(folder: RunFolder, error: BaseException) -> None:
    """For the process that started this one: see first_failure() and missed()."""
    failed = failure_of(error)
    LOG.error("Process %d of the run failed.\n%s", index(), failed.traceback)
    about = {"start": os.environ[START_VARIABLE], "lost": _lost_others(error)}
    if isinstance(error, GraphError):
        about |= {"missing": sorted(error.missing), "lookup": error.lookup}
    if index():
        failed.message = f"Process {index()}: {failed.message}"
    write_json(_failure_file(folder, index()), {**failed.as_dict(), **about})


def forget_failures(folder: RunFolder) -> None:
    """Of an earlier start of the run."""
    for path in folder.path.glob("rank-*.json"):
        remove(path)


def first_failure(folder: RunFolder, start: str) -> Failed | None:
    """Of the ranks that don't speak, by itself; one that only lost its connection to another has no reason to tell.

    start: of which start of the run; processes of an earlier one may end late.
    """
    for told in _failures(folder, start):
        return Failed(told["message"], told.get("traceback", ""), told.get("node_id", ""))
    return None


def missed(folder: RunFolder, start: str) -> GraphError:
    """What the nodes that failed in some rank have looked for."""
    found = [told for told in _failures(folder, start) if isinstance(told.get("missing"), list)]
    kinds = {str(kind) for told in found for kind in told["missing"]}
    message = str(found[0]["message"]) if found else ""
    return GraphError(message, missing=kinds, lookup=any(told.get("lookup") is True for told in found))


def _failures(folder: RunFolder, start: str) -> list[dict]:
    """The first one first."""
    found = []
    for path in folder.path.glob("rank-*.json"):
        with suppress(ValueError, KeyError, TypeError, OSError):  # a damaged one tells nothing
            told = read_json(path)
            if told.get("start") == start and not told["lost"] and told["message"]:
                found.append((float(told["time"]), told))
    return [told for _, told in sorted(found, key=lambda each: each[0])]


def last_word(folder: RunFolder, error: BaseException, reporter: Reporter, stop: Stop) -> Failed | Cancelled:
    """What the process that speaks says of the error that ends it: another's may be the reason."""
    own = failure_of(error)
    LOG.error("The run failed.\n%s", own.traceback)
    if not is_rank():
        return own
    other = first_failure(folder, os.environ[START_VARIABLE])
    if other or not _lost_others(error):
        return other or own
    if stop.wished():  # one that never returned was ended
        return Cancelled(reporter.checkpoint, _cancelled(reporter))
    return Failed(SILENT.format(""), own.traceback)


def _lost_others(error: BaseException) -> bool:
    """Whether it is torch's complaint that another process is gone."""
    return isinstance(error, RuntimeError) and bool(
        type(error).__name__.startswith("Dist") or LOST.search(failure_of(error).message)
    )


def from_first(folder: RunFolder, stop: Stop, make: Callable[[], Value]) -> Value:
    """What the first process makes, in all of them; it must be JSON. The others wait: until it has the GPUs, too."""
    if not is_rank():
        return make()
    path, start = folder.path / "from-first.json", os.environ[START_VARIABLE]
    if index() == 0:
        value = make()
        write_json(path, {"start": start, "value": value})
        return value
    while True:
        with suppress(ValueError, KeyError, TypeError, OSError):  # not there yet, or an earlier start's
            if (told := read_json(path))["start"] == start:
                return told["value"]
        stop.check()
        time.sleep(0.5)


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
    # Without --no_python the ranks' Python would have no flags.
    launch = [*process.python(), "-m", "accelerate.commands.launch", "--multi_gpu", *options, "--no_python"]
    return [*launch, *process.python(), str(entry), str(folder.path)]


def _failure_file(folder: RunFolder, rank: int) -> Path:
    return folder.path / f"rank-{rank}.json"
