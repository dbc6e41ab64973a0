"""What a run folder says: its state, also when its worker can't say it any more, and a summary for people."""

from __future__ import annotations

import json
import time

from ...mixgrpo_engine.events import finite
from ...mixgrpo_engine.run_folder import RunFolder
from . import locks, paths, process

ACTIVE = ("queued", "waiting", "running")
"""States in which a worker is at work, or about to be."""

RESUMABLE = ("dead", "cancelled", "failed")
"""States from which a run goes on from its last checkpoint. "dead": the worker is gone without a word."""

STARTING_SECONDS = 10.0
"""Between "queued" and the worker's process there is a moment in which nobody can be seen."""


def state(folder: RunFolder) -> str:
    """queued, waiting, running, finished, failed, cancelled or dead."""
    status = folder.status()
    if status["state"] not in ACTIVE or is_alive(folder):
        return status["state"]
    starting = status["state"] == "queued" and time.time() - status.get("updated", 0.0) < STARTING_SECONDS
    if starting and not launch(folder):
        return "queued"
    # The worker may have written its last word between the two looks.
    now = folder.status()["state"]
    if now not in ACTIVE:
        return now
    # A worker that was asked to stop before it could listen has just ended.
    return "cancelled" if folder.cancel_file.exists() else "dead"


def is_alive(folder: RunFolder) -> bool:
    """True while a worker process of this run exists."""
    return process.is_alive(launch(folder)) or locks.is_taken(folder.lock)


def launch(folder: RunFolder) -> dict:
    """The identity of the process launched last, {} before the first."""
    return _json(folder.path / "launch.json")


def job(folder: RunFolder) -> dict:
    """job.json: graph, settings, prompts; {} when there is none."""
    return _json(folder.job)


def is_cancelling(folder: RunFolder) -> bool:
    return folder.cancel_file.exists() and is_alive(folder)


def runs() -> list[RunFolder]:
    """All runs, newest first."""
    root = paths.runs_directory()
    if not root.is_dir():
        return []
    folders = [
        RunFolder(entry) for entry in root.iterdir() if paths.ID.fullmatch(entry.name) and (entry / "job.json").exists()
    ]
    return sorted(folders, key=lambda folder: (folder.job.stat().st_mtime, folder.name), reverse=True)


def find(run_id: str) -> RunFolder | None:
    """The run of this id, or None; also None for what can't be an id."""
    if not isinstance(run_id, str) or not paths.ID.fullmatch(run_id):
        return None
    folder = paths.folder_of(run_id)
    return folder if folder.job.exists() else None


def summary(folder: RunFolder) -> dict:
    """A run in JSON: id, name, state, progress, rewards, and where its files are."""
    status, made = folder.status(), job(folder)
    return finite(
        {
            **status,
            "run_id": folder.name,
            "name": made.get("name", folder.name),
            "created": made.get("created"),
            "state": state(folder),
            "cancelling": is_cancelling(folder),
            "folder": str(folder.path),
            "log": str(folder.log),
            "images": images(folder),
            "files": files(folder),
        }
    )


def images(folder: RunFolder) -> list[dict]:
    """The reward curve and the newest sample grid, as far as they exist, as /view wants them."""
    found = [folder.path / "reward.png"] if (folder.path / "reward.png").exists() else []
    sample = folder.status().get("sample")
    if sample and (folder.path / sample).exists():
        found.append(folder.path / sample)
    return [_view(path) for path in found]


def files(folder: RunFolder) -> list[dict]:
    """The LoRA and the metrics, as far as they exist, as /view wants them."""
    return [_view(path) for path in (paths.lora_file(folder.name), folder.events) if path.exists()]


def _view(path) -> dict:
    subfolder = path.parent.relative_to(paths.output_directory()).as_posix()
    return {"filename": path.name, "subfolder": subfolder, "type": "output"}


def _json(path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
