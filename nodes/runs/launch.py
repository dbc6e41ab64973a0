"""Starts the worker of a run and keeps hold of its process, so that no zombie stays."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

from ...mixgrpo_engine.records import trackers
from ...mixgrpo_engine.records.events import Notice
from ...mixgrpo_engine.records.files import remove, write_json
from ...mixgrpo_engine.records.run_folder import RunFolder
from .. import owner_settings
from ..worker import compat
from . import news, packs, process, signature, stored

ENTRY = Path(__file__).parent.parent.joinpath(*process.SCRIPT)
WORKER_VARIABLE = "MIXGRPO_WORKER"
"""Set in a worker's environment (to its run folder): whoever is a worker doesn't serve, and doesn't launch."""

START_FOLDER = os.environ.get("MIXGRPO_START_FOLDER") or os.getcwd()
"""Where the server was started: see prestartup_script.py."""

SPIN_COUNT = "20000"
"""Turns that a thread of libgomp waits in a loop before it sleeps: its own 300,000 keep cores from who has work."""

STOP_SECONDS = 30.0
"""After Cancel, before a worker is ended that doesn't stop: the owner's setting stop_seconds."""

MOST_PATIENCE = 3600
"""Seconds that several processes may wait for a person."""

_started: dict[int, subprocess.Popen] = {}


def in_worker() -> bool:
    return bool(os.environ.get(WORKER_VARIABLE))


def require_devices(made: dict) -> None:
    """Raises ValueError with one sentence when a job asks for more processes than can compute side by side here."""
    wanted = made["config"].get("run", {}).get("processes", 1)
    if wanted <= 1:
        return
    for node in made.get("graph", {}).values():
        patience = node["inputs"].get("patience")
        bounded = type(patience) is int and 0 < patience <= MOST_PATIENCE
        if node["class_type"] == "MixGRPO_RewardYou" and not bounded:
            raise ValueError(
                "Other processes wait with MixGRPO Reward: You, and give up after two hours: set its patience to 1 to "
                f"{MOST_PATIENCE}, or processes of MixGRPO Train to 1."
            )
    kind, there = devices()
    if wanted > there:
        what = "CPU cores" if kind == "cpu" else "GPUs that this ComfyUI sees"
        raise ValueError(f"processes is {wanted} with {there} {what}: set it to {there} at most.")


def devices() -> tuple[str, int]:
    """The kind of device that this ComfyUI computes on, and how many processes can do so side by side."""
    import comfy.model_management
    import torch

    kind = comfy.model_management.get_torch_device().type
    return kind, {"cpu": os.cpu_count() or 1, "cuda": torch.cuda.device_count()}.get(kind, 1)


def prepare(folder: RunFolder, stage: str, message: str) -> None:
    """Makes a run one that is going to be launched; stage and message: for status.json.

    The caller holds the submit lock and knows that no worker of this run is alive.
    Raises ValueError when job.json isn't this ComfyUI's own, or needs a node type that isn't there.
    """
    made = stored.job(folder)
    start_orders(folder, made)
    if damage := stored.launch_damage(folder):
        folder.emit(Notice(int(folder.status().get("iteration") or 0), damage))
    for leftover in (folder.cancel_file, folder.save_file, folder.path / stored.LAUNCH):
        remove(leftover)
    iterations = made["config"]["run"]["iterations"]
    folder.set_status(state="queued", stage=stage, message=message, node_id="", phase="", iterations=iterations)
    news.tell(folder.name)


def launch(folder: RunFolder) -> None:
    """Starts the worker of a run that is prepared; the caller still holds the submit lock. Raises as prepare()."""
    reap()
    orders = start_orders(folder, stored.job(folder))
    folder.set_status(state="queued", stage="", message="")
    with open(folder.log, "ab") as log:
        worker = subprocess.Popen(
            [*process.python(), str(ENTRY), str(folder.path)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=START_FOLDER,
            env=_environment(folder),
            # The run outlives the server: Ctrl-C in its terminal isn't meant for it.
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
            | getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    _started[worker.pid] = worker
    try:
        write_json(folder.path / stored.LAUNCH, {**process.identity(worker.pid), "device": device()})
    except OSError as error:
        # It waits for its orders and has done nothing yet; nobody could find it again.
        worker.kill()
        worker.communicate()
        reap()
        with contextlib.suppress(OSError):
            folder.set_status(state="failed", message=str(error))
        raise
    news.tell(folder.name)
    if worker.stdin:  # always: it is a pipe
        # A worker that has ended already has said why in its log.
        with contextlib.suppress(OSError), worker.stdin as stdin:
            stdin.write(json.dumps(orders).encode())


def _environment(folder: RunFolder) -> dict[str, str]:
    patient = {} if "OMP_WAIT_POLICY" in os.environ else {"GOMP_SPINCOUNT": SPIN_COUNT}
    ours = {WORKER_VARIABLE: str(folder.path), "PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8"}
    return {**patient, **os.environ, **ours}


def start_orders(folder: RunFolder, made: dict) -> dict:
    """What the worker is told through its stdin, never through the run folder, into which others can write.

    comfyui: how this server was started; packs, others: see packs.orders(); key: what job.json is signed
    with; stop_seconds: how long it may take to stop; trackers: which get the run's curves.
    """
    key = signature.install_key()
    signature.require(made, folder.name, key)
    return {
        "comfyui": this_comfyui(),
        **packs.orders(made["graph"]),
        "key": key.hex(),
        "stop_seconds": owner_settings.seconds("stop_seconds", STOP_SECONDS),
        "trackers": trackers.checked(owner_settings.words("trackers"), "The setting trackers"),
    }


def this_comfyui() -> dict:
    """How this server was started: the worker starts its ComfyUI in the same way."""
    import folder_paths

    return {
        "root": str(Path(folder_paths.__file__).resolve().parent),
        "argv": list(sys.argv),
        "sys_path": [os.path.join(START_FOLDER, path) for path in sys.path if path],
    }


def device() -> str:
    """What the trainings of this server compute on: "cpu", or a GPU's name."""
    return next(iter(compat.gpus()), "cpu")


def reap() -> None:
    """Collects workers that have ended."""
    for pid, worker in list(_started.items()):
        if worker.poll() is not None:
            _started.pop(pid, None)
