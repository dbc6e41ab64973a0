"""The worker's life: lock the run, boot ComfyUI, do the job, and leave a true last word whatever happens."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from pathlib import Path

from filelock import FileLock, Timeout

from ...mixgrpo_engine import deterministic
from ...mixgrpo_engine.records import readable
from ...mixgrpo_engine.records.events import Cancelled, Stage
from ...mixgrpo_engine.records.run_folder import RunFolder
from ..runs import signature, stored
from . import anew, compat, gpu_lock, ranks
from .errors import GraphError, OthersEnded, StopRequested
from .report import Reporter
from .stop import Stop
from .watchdog import Watchdog

FINISHED, FAILED, MISUSED, BUSY = 0, 1, 2, 3


def run(path: Path) -> int:
    """Does the job of a run folder.

    Returns the process's exit code: 0 finished or cancelled, 1 failed, 2 not started by the server, 3 taken already.
    """
    readable.never_fail_to_print()
    orders = _orders()
    if orders is None:
        print("This script is started by the MixGRPO Train node, which tells it the rest through its stdin.")
        return MISUSED
    folder = RunFolder(path)
    if not ranks.is_rank() and ranks.wanted(folder) > 1:
        return ranks.start_and_wait(folder, orders)
    if ranks.index() > 0:
        code = ranks.follow(folder, orders["stop_seconds"], lambda *of_rank: _boot_and_train(folder, orders, *of_rank))
    else:
        code = _as_first_process(folder, orders)
    if ranks.is_rank():
        from ...mixgrpo_engine.distributed.ranks import (
            leave,  # brings torch, which nothing here needs before ComfyUI is booted
        )

        leave(code)
    return code


def _as_first_process(folder: RunFolder, orders: dict) -> int:
    """The life of the process that writes: the only one, or the first of several."""
    lock = FileLock(folder.lock)
    # The server looks whether the lock is taken by taking it for a moment: hence the patience.
    try:
        lock.acquire(timeout=5.0)
    except Timeout:
        print(f"Another worker is at run {folder.name} already: this one ends.", flush=True)
        return BUSY
    reporter, stop = Reporter(folder), Stop(folder, ranks.is_rank())
    stop.listen()
    scratch, again = folder.path / "temp", None
    Watchdog(reporter, stop, orders["stop_seconds"], lambda: shutil.rmtree(scratch, ignore_errors=True)).start()
    try:
        if not ranks.is_rank():
            ranks.forget_failures(folder)  # an earlier start had several processes
        _boot_and_train(folder, orders, reporter, stop, scratch)
    except StopRequested:
        reporter.emit(Cancelled(reporter.checkpoint, "Cancelled before the training went on."))
    except OthersEnded:
        return FAILED  # start_and_wait() tells why
    except BaseException as error:  # the process's outermost frame: whatever it is (SystemExit too), the run says it
        if ranks.is_rank() and isinstance(error, GraphError):
            ranks.leave_failure(folder, error)
            return FAILED  # start_and_wait() tells it, or starts all of them again
        again = anew.prepare(orders, error, reporter)
        if again is None:
            reporter.emit(last := ranks.last_word(folder, error, reporter, stop))
            return FAILED if last.type == "failed" else FINISHED
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        lock.release()
    return anew.start(again) if again else FINISHED


def _orders() -> dict | None:
    """What the server says through stdin (launch.start_orders). None when nobody does."""
    if ranks.is_rank():
        return ranks.orders()
    if sys.stdin is None or sys.stdin.isatty():
        return None
    try:
        orders = json.loads(sys.stdin.buffer.read())
    except ValueError:
        return None
    wanted = {"comfyui", "packs", "others", "key", "stop_seconds"}
    return orders if isinstance(orders, dict) and orders.keys() >= wanted else None


def _boot_and_train(folder: RunFolder, orders: dict, reporter: Reporter, stop: Stop, scratch: Path) -> None:
    reporter.start()
    reporter.emit(Stage("boot", "Starting ComfyUI."))
    job = stored.job(folder)
    # Read once and checked here: what the server checked may have been replaced since.
    signature.require(job, folder.name, bytes.fromhex(orders["key"]))
    if job["config"]["run"].get("deterministic"):
        deterministic.prepare()
    scratch.mkdir(exist_ok=True)
    compat.configure(orders["comfyui"], scratch, orders["packs"])
    ranks.choose_device(compat.uses_gpu())
    if ranks.index() == 0:  # one of several processes takes it for all
        gpu_lock.take(compat.gpus(ranks.wanted(folder)), reporter, stop)
    with stop.calling(stop.check):  # in the middle of an import
        comfy = compat.boot(scratch, orders["packs"])
    stop.check()
    # From here on everything is the pack as ComfyUI has loaded it: the graph's objects are of its classes.
    pack = comfy.pack_of("MixGRPO_Train", folder.log)
    importlib.import_module(f"{pack}.nodes.worker.train").train(
        job, folder.path, comfy, reporter, stop, orders.get("trackers", [])
    )
