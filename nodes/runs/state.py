"""What a run folder says: its state, also when its worker can't say it any more, and a summary for people.

Any client may write into ComfyUI's output folder, and disks fail: a file that doesn't hold what it should makes
its run "unreadable", with a message that names the file, and harms no other run.
"""

from __future__ import annotations

import time
from pathlib import Path

from ...mixgrpo_engine.records.events import finite
from ...mixgrpo_engine.records.files import read_json
from ...mixgrpo_engine.records.run_folder import STATES, RunFolder
from . import locks, paths, process

ACTIVE = ("queued", "waiting", "running")
"""States in which a worker is at work, or about to be."""

UNREADABLE = "unreadable"

STARTING_SECONDS = 10.0
"""Between "queued" and the worker's process there is a moment in which nobody can be seen."""


def state(folder: RunFolder) -> str:
    """queued, waiting, running, finished, failed, cancelled, dead (the worker is gone without a word) or unreadable."""
    return _look(folder)[0]


def damage(folder: RunFolder) -> str:
    """Which of the run's files can't be read, in one sentence; "" when all can."""
    return _look(folder)[1]


def _look(folder: RunFolder) -> tuple[str, str]:
    try:
        job(folder), launch(folder)
        return _state(folder), ""
    except (ValueError, OSError) as error:
        return UNREADABLE, str(error)


def _state(folder: RunFolder) -> str:
    told = status(folder)
    if told["state"] not in ACTIVE or is_alive(folder):
        return told["state"]
    starting = told["state"] == "queued" and time.time() - (told.get("updated") or 0.0) < STARTING_SECONDS
    if starting and not launch(folder):
        return "queued"
    # Between the two looks the worker may have started, or written its last word.
    now = status(folder)["state"]
    if now not in ACTIVE or is_alive(folder):
        return now
    # A worker that was asked to stop before it could listen has just ended.
    return "cancelled" if folder.cancel_file.exists() else "dead"


def is_alive(folder: RunFolder) -> bool:
    """True while a worker process of this run exists."""
    return process.is_alive(launch(folder), folder.path) or locks.is_taken(folder.lock)


def status(folder: RunFolder) -> dict:
    """status.json. Raises ValueError naming the file when it doesn't hold what it should."""
    try:
        told = folder.status()
    except (OSError, RecursionError) as error:
        raise _damaged(folder.status_file, error) from None
    if told["state"] not in STATES:
        raise _damaged(folder.status_file, f"its state is '{str(told['state'])[:40]}'")
    for kind, (fits, names) in STATUS_FIELDS.items():
        for name in names:
            if told.get(name) is not None and not fits(told[name]):
                raise _damaged(folder.status_file, f"'{name}' isn't {kind}")
    return told


def launch(folder: RunFolder) -> dict:
    """The identity of the process launched last, {} before the first. Raises ValueError naming a damaged file."""
    return _json(folder.path / "launch.json")


def job(folder: RunFolder) -> dict:
    """job.json: graph, settings, prompts; {} when there is none. Raises ValueError naming a damaged file."""
    made = _json(folder.job)
    if not isinstance(made.get("name", ""), str):
        raise _damaged(folder.job, "'name' isn't a text")
    return made


def is_cancelling(folder: RunFolder) -> bool:
    return folder.cancel_file.exists() and not damage(folder) and is_alive(folder)


def runs() -> list[RunFolder]:
    """All runs, newest first."""
    root = paths.runs_directory()
    if not root.is_dir():
        return []
    found = [RunFolder(entry) for entry in root.iterdir() if paths.ID.fullmatch(entry.name)]
    dated = [(_changed(folder.job), folder) for folder in found]
    dated = [(changed, folder) for changed, folder in dated if changed is not None]
    return [folder for _, folder in sorted(dated, key=lambda item: (item[0], item[1].name), reverse=True)]


def find(run_id: str) -> RunFolder | None:
    """The run of this id, or None; also None for what can't be an id."""
    if not isinstance(run_id, str) or not paths.ID.fullmatch(run_id):
        return None
    folder = paths.folder_of(run_id)
    return folder if folder.job.exists() else None


def summary(folder: RunFolder) -> dict:
    """A run in JSON: id, name, state, progress, rewards, and where its files are; it always answers."""
    about = {"run_id": folder.name, "folder": str(folder.path), "log": str(folder.log)}
    try:
        launch(folder)
        told, made = status(folder), job(folder)
        return finite(
            {
                **told,
                **about,
                "name": made.get("name", folder.name),
                "created": made["created"] if _is_number(made.get("created")) else None,
                "state": _state(folder),
                "cancelling": is_cancelling(folder),
                "images": images(folder, told.get("sample")),
                "files": files(folder),
            }
        )
    except (ValueError, OSError, RecursionError) as error:
        nothing = {"name": folder.name, "created": None, "cancelling": False, "images": [], "files": []}
        return {**about, **nothing, "state": UNREADABLE, "message": str(error)}


def images(folder: RunFolder, sample: str | None) -> list[dict]:
    """The reward curve and the newest sample grid, as far as they exist, as /view wants them."""
    found = [folder.path / "reward.png", *([folder.path / sample] if sample else [])]
    inside = folder.path.resolve()
    return [_view(path) for path in found if path.exists() and path.resolve().is_relative_to(inside)]


def files(folder: RunFolder) -> list[dict]:
    """The LoRAs and the metrics, as far as they exist, as /view wants them."""
    loras = [paths.lora_file(folder.name, which) for which in paths.WHICH]
    return [_view(path) for path in (*loras, folder.events) if path.exists()]


def _view(path) -> dict:
    subfolder = path.parent.relative_to(paths.output_directory()).as_posix()
    return {"filename": path.name, "subfolder": subfolder, "type": "output"}


def _json(path: Path) -> dict:
    try:
        return read_json(path)
    except FileNotFoundError:
        return {}
    except (OSError, RecursionError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, why) -> ValueError:
    return ValueError(f"{path} is damaged ({why}): restore it, or remove the folder.")


def _changed(path: Path) -> float | None:
    """When a file was last written; None when it isn't there, or not any more."""
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def _is_number(value) -> bool:
    return type(value) in (int, float) and abs(value) < 1e18


def _is_text(value) -> bool:
    return isinstance(value, str) and "\0" not in value


def _is_rewards(value) -> bool:
    return isinstance(value, dict) and all(item is None or _is_number(item) for item in value.values())


def _is_best(value) -> bool:
    return (
        isinstance(value, dict)
        and _is_number(value.get("iteration"))
        and (value.get("score") is None or _is_number(value["score"]))
        and (value.get("lora") is None or _is_text(value["lora"]))
    )


STATUS_FIELDS = {
    "a number": (
        _is_number, ("iteration", "iterations", "checkpoint", "eta_seconds", "updated", "phase_done", "phase_total"),
    ),
    "a text": (_is_text, ("stage", "message", "node_id", "phase", "sample", "lora")),
    "iteration, score and lora": (_is_best, ("best",)),
    "numbers by name": (_is_rewards, ("reward", "held_out_reward", "held_out_strict")),
}  # fmt: skip
