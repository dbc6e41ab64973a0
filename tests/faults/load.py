"""What a server with many runs costs its other users: their answer times, and the processor time of following the runs.

One run is at work, with logs of 100 MB, and somebody has the run panel open.
"""

import contextlib
import json
import statistics
import threading
import time
import urllib.request
from pathlib import Path

import psutil
from filelock import FileLock

from mixgrpo_engine.config import TrainConfig
from mixgrpo_engine.records.run_folder import RunFolder
from scripts.comfyui_server import ServerProcess
from tests.faults import hostile

LOG_BYTES = 100 * 2**20
SECONDS = 30.0  # of each measurement
PROBES = ("/queue", "/object_info/KSampler", "/system_stats", "/history")
PANEL = ("", "/{run}", "/{run}/history", "/{run}/log", "/{run}/images", "/{run}/schedule")
BUSY = "busy-00000000"


def measure(place: Path, runs: int):
    base = place / "without us"
    # A folder of packs in which there is none.
    with _started(ServerProcess(base, {"none": _empty(place / "no pack")})) as server:
        alone, idle_alone = _times(server), _idle(server)
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(hostile.server(place, {}))
        write_runs(running.output / "mixgrpo", runs)
        stack.enter_context(_at_work(running.output / "mixgrpo" / BUSY))
        time.sleep(15)  # the follower sees them for the first time
        idle = _idle(running)
        stop = threading.Event()
        looking = threading.Thread(target=_look_at_panel, args=(running, stop))
        looking.start()
        try:
            beside = _times(running)
        finally:
            stop.set()
            looking.join()
    yield f"{runs} runs, one at work with logs of {LOG_BYTES // 2**20} MB, the panel open, {SECONDS:g} s each:"
    yield f"other requests without us: {_told(alone)}; with us: {_told(beside)}."
    yield f"processor of the idle server without us: {idle_alone:.2%} of a core; following the runs: {idle:.2%}."


@contextlib.contextmanager
def _started(server):
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _empty(folder: Path) -> Path:
    folder.mkdir()
    (folder / "__init__.py").write_text("NODE_CLASS_MAPPINGS = {}\n")
    return folder


def _times(server) -> list[float]:
    """Seconds of requests that have nothing to do with runs, one after another."""
    found, until = [], time.monotonic() + SECONDS
    while time.monotonic() < until:
        for path in PROBES:
            started = time.perf_counter()
            urllib.request.urlopen(server.url + path, timeout=60).read()
            found.append(time.perf_counter() - started)
            time.sleep(0.01)
    return found


def _idle(server) -> float:
    """The share of a core that the server takes while nobody asks it anything."""
    process = psutil.Process(server.pid)
    before, started = process.cpu_times(), time.monotonic()
    time.sleep(SECONDS)
    after = process.cpu_times()
    return (after.user + after.system - before.user - before.system) / (time.monotonic() - started)


def _told(times: list[float]) -> str:
    cuts = statistics.quantiles(times, n=100)
    return f"median {cuts[49] * 1e3:.1f} ms, p99 {cuts[98] * 1e3:.1f} ms, longest {max(times) * 1e3:.0f} ms"


def _look_at_panel(server, stop: threading.Event) -> None:
    """As the panel does when it is opened, again and again."""
    while not stop.wait(2.0):
        for path in PANEL:
            urllib.request.urlopen(f"{server.url}/mixgrpo/runs{path.format(run=BUSY)}", timeout=60).read()


def write_runs(place: Path, count: int) -> None:
    """Finished runs, as workers leave them."""
    job = {"config": TrainConfig().as_dict(), "prompts": {"train": ["a red circle"] * 100, "held_out": []}, "graph": {}}
    for number in range(count):
        folder = RunFolder(place / f"run-{number:08x}")
        folder.create()
        folder.job.write_text(json.dumps({**job, "name": f"Run {number}", "created": float(number)}))
        folder.set_status(state="finished", iteration=50, iterations=50, reward={"shapes": 0.5})
        folder.events.write_text("".join(json.dumps(_iteration(each)) + "\n" for each in range(1, 51)))
        (folder.checkpoints / "000050").mkdir()


@contextlib.contextmanager
def _at_work(path: Path):
    """A run with long logs, which grow."""
    folder, stop = RunFolder(path), threading.Event()
    folder.create()
    folder.job.write_text(json.dumps({"name": "Busy", "config": TrainConfig().as_dict(), "graph": {}}))
    folder.log.write_bytes((b"x" * 99 + b"\n") * (LOG_BYTES // 100))
    lines, size = [], 0
    for number in range(1, 10**9):
        lines.append(json.dumps(_iteration(number)) + "\n")
        size += len(lines[-1])
        if size > LOG_BYTES:
            break
    folder.events.write_text("".join(lines))

    def work() -> None:
        for last in range(number + 1, 10**9):
            if stop.wait(0.2):
                return
            with open(folder.events, "a") as file:
                file.write(json.dumps(_iteration(last)) + "\n")
            folder.set_status(state="running", iteration=last, iterations=10**9)

    folder.set_status(state="running", iteration=number, iterations=10**9)
    worker = threading.Thread(target=work)
    with FileLock(folder.lock):
        worker.start()
        try:
            yield
        finally:
            stop.set()
            worker.join()


def _iteration(number: int) -> dict:
    return {
        "type": "iteration", "time": 1.7e9 + number, "iteration": number, "iterations": 10**6, "window": [0, 4],
        "reward": {"shapes": 0.5 + 0.1 * (number % 7)}, "reward_std": 0.1, "loss": 0.01, "grad_norm": 0.3,
        "ratio_deviation": 1e-4, "clip_fraction": 0.2, "forwards": number * 100, "eta_seconds": 100.0, "updates": 4,
        "seconds": {"rollout": 0.1, "score": 0.1, "update": 0.1, "total": 0.3}, "learning_rate": 1e-4, "kl": None,
        "images": 12, "memory": {"now": 10**9, "peak": 2 * 10**9},
    }  # fmt: skip
