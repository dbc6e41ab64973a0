"""A run's sample images as /view wants them.

The names in events may be a stranger's: only files that are found in the run's own folders are told.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any

from ...mixgrpo_engine.records.files import read_json
from ...mixgrpo_engine.records.run_folder import RunFolder
from . import event_lines, paths
from .history import History

GROUP = "samples/group"
FOLDER = re.compile(r"samples/\d{1,9}")
GRID = re.compile(r"samples/[\w-]{1,100}\.\w{1,8}")


def view(path: Path) -> dict:
    """Where /view finds a file of the output folder."""
    subfolder = path.parent.relative_to(paths.output_directory()).as_posix()
    return {"filename": path.name, "subfolder": subfolder, "type": "output"}


def samples(history: History) -> list[dict]:
    """[{"iteration", "images": [{"view", "prompt", "seed", "scores"}]}], oldest first, without what is gone."""
    found = []
    for iteration, line in sorted(history.samples.items()):
        told = (event_lines.parse(line) or {}).get("images")
        images = _there(history.folder, told, FOLDER, ("prompt", "seed", "scores"))
        if images:
            found.append({"iteration": iteration, "images": images})
    return found


def group(folder: RunFolder) -> dict[str, Any]:
    """The newest training group: what the worker wrote, with "view" instead of "file". Raises ValueError if damaged."""
    try:
        told = read_json(folder.path / GROUP / "group.json")
    except FileNotFoundError:
        return {"images": []}
    images = _there(folder, told.get("images"), re.compile(GROUP), ("rewards", "advantage"))
    return {**{name: told.get(name) for name in ("iteration", "prompt", "window")}, "images": images}


def thumbnail(folder: RunFolder, sample: str | None) -> dict | None:
    """The newest single image, else the newest sample grid (its path in the run folder), if there is one."""
    if not sample or not GRID.fullmatch(sample):
        return None
    iteration = re.search(r"(\d+)\.", sample)
    single = [f"samples/{iteration[1]}/00.webp"] if iteration else []
    return next((view(folder.path / file) for file in (*single, sample) if _is_file(folder, file)), None)


def grid_and_curve(folder: RunFolder, sample: str | None) -> list[dict]:
    """The reward curve and the newest sample grid, as far as they exist."""
    found = ["reward.png", *([sample] if sample and GRID.fullmatch(sample) else [])]
    return [view(folder.path / file) for file in found if _is_file(folder, file)]


def _there(folder: RunFolder, told: Any, where: re.Pattern, fields: tuple[str, ...]) -> list[dict]:
    """The images of a list whose files lie in a folder of that form."""
    images, known = [], {}
    for image in told if isinstance(told, list) else ():
        file = image.get("file") if isinstance(image, dict) else None
        parent, _, name = file.rpartition("/") if isinstance(file, str) else ("", "", "")
        if not where.fullmatch(parent):
            continue
        if parent not in known:
            known[parent] = _files(folder.path / parent)
        if name in known[parent]:
            images.append({"view": view(folder.path / parent / name)} | {field: image.get(field) for field in fields})
    return images


def _files(path: Path) -> set[str]:
    """The plain files of a folder two steps below the run's; links might lead out of it."""
    if path.is_symlink() or path.parent.is_symlink():
        return set()
    try:
        with os.scandir(path) as entries:
            return {entry.name for entry in entries if entry.is_file(follow_symlinks=False)}
    except OSError:
        return set()


def _is_file(folder: RunFolder, file: str) -> bool:
    """Whether it is a plain file in the run folder itself, without a link on the way."""
    path = str(folder.path)
    parts = file.split("/")
    try:
        kinds = [os.lstat("/".join((path, *parts[: end + 1]))).st_mode for end in range(len(parts))]
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(kinds[-1]) and all(map(stat.S_ISDIR, kinds[:-1]))
