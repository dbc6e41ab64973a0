"""The runs on the disk: which there are, and what is told of each to browsers and scripts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...mixgrpo_engine.records.events import finite
from ...mixgrpo_engine.records.run_folder import RunFolder
from . import liveness, paths, stored


def all_runs() -> list[RunFolder]:
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
        stored.launch(folder)
        told, made = stored.status(folder), stored.job(folder)
        return finite(
            {
                **told,
                **about,
                "name": made.get("name", folder.name),
                "created": made["created"] if stored.is_number(made.get("created")) else None,
                "state": liveness.read_state(folder),
                "cancelling": liveness.is_cancelling(folder),
                "images": images(folder, told.get("sample")),
                "files": files(folder),
            }
        )
    except (ValueError, OSError, RecursionError) as error:
        nothing: dict[str, Any] = {"name": folder.name, "created": None, "cancelling": False, "images": [], "files": []}
        return {**about, **nothing, "state": liveness.UNREADABLE, "message": str(error)}


def images(folder: RunFolder, sample: str | None) -> list[dict]:
    """The reward curve and the newest sample grid, as far as they exist, as /view wants them."""
    found = [folder.path / "reward.png", *([folder.path / sample] if sample else [])]
    inside = folder.path.resolve()
    return [_view(path) for path in found if path.exists() and path.resolve().is_relative_to(inside)]


def files(folder: RunFolder) -> list[dict]:
    """The LoRAs and the metrics, as far as they exist, as /view wants them."""
    loras = [paths.lora_file(folder.name, which) for which in paths.WHICH]
    return [_view(path) for path in (*loras, folder.events) if path.exists()]


def _view(path: Path) -> dict:
    subfolder = path.parent.relative_to(paths.output_directory()).as_posix()
    return {"filename": path.name, "subfolder": subfolder, "type": "output"}


def _changed(path: Path) -> float | None:
    """When a file was last written; None when it isn't there, or not any more."""
    try:
        return path.stat().st_mtime
    except OSError:
        return None
