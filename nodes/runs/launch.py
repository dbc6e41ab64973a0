"""Starts the worker of a run and keeps hold of its process, so that no zombie stays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ...mixgrpo_engine.run_folder import RunFolder, write_json
from . import process, state

ENTRY = Path(__file__).parent.parent / "worker" / "entry.py"
WORKER_VARIABLE = "MIXGRPO_WORKER"
"""Set in a worker's environment (to its run folder): whoever is a worker doesn't serve, and doesn't launch."""

_started: dict[int, subprocess.Popen] = {}


def in_worker() -> bool:
    return bool(os.environ.get(WORKER_VARIABLE))


def launch(folder: RunFolder) -> None:
    """Starts the worker. The caller holds the submit lock and knows that no other worker of this run is alive."""
    reap()
    job = state.job(folder)
    job["comfyui"] = this_comfyui()
    write_json(folder.job, job)
    folder.cancel_file.unlink(missing_ok=True)
    (folder.path / "launch.json").unlink(missing_ok=True)
    folder.set_status(state="queued", stage="", message="", node_id="", iterations=job["config"]["run"]["iterations"])
    with open(folder.log, "ab") as log:
        worker = subprocess.Popen(
            [sys.executable, "-u", str(ENTRY), str(folder.path)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=job["comfyui"]["cwd"],
            env={**os.environ, WORKER_VARIABLE: str(folder.path), "PYTHONUTF8": "1"},
            # The run outlives the server: Ctrl-C in its terminal isn't meant for it.
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
            | getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    _started[worker.pid] = worker
    write_json(folder.path / "launch.json", process.identity(worker.pid))


def this_comfyui() -> dict:
    """How this server was started: the worker starts its ComfyUI in the same way."""
    import folder_paths

    return {
        "root": str(Path(folder_paths.__file__).resolve().parent),
        "argv": list(sys.argv),
        "sys_path": [path for path in sys.path if path],
        "cwd": os.getcwd(),
    }


def reap() -> None:
    """Collects workers that have ended."""
    for pid, worker in list(_started.items()):
        if worker.poll() is not None:
            _started.pop(pid, None)
