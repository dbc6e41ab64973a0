"""A run folder's files as the server reads them.

Any client may write into ComfyUI's output folder, and disks fail: a file that doesn't hold what it should is named in
one sentence, and harms no other run.
"""

from __future__ import annotations

import os
from pathlib import Path

from ...mixgrpo_engine.records.files import read_json
from ...mixgrpo_engine.records.run_folder import RunFolder
from ...mixgrpo_engine.records.stored_status import damaged, is_number
from . import paths

__all__ = ["LAUNCH", "TURN", "check_job", "is_number", "job", "launch", "launch_damage", "status", "turn"]

LAUNCH, TURN = "launch.json", "turn.json"


def status(folder: RunFolder) -> dict:
    """status.json, made again from the events where it is damaged. Raises ValueError, naming it, when they are, too."""
    try:
        told = folder.status()
    except OSError as error:
        raise damaged(folder.status_file, error) from None
    # No event tells under which names the LoRAs are published.
    finished, best, published = told["state"] == "finished", told.get("best"), paths.lora_file(folder.name, paths.BEST)
    if finished and not told.get("lora") and paths.lora_file(folder.name).exists():
        told["lora"] = paths.lora_name(folder.name)
    if best and not best.get("lora") and (published.exists() if finished else _holds(published, folder.best_lora)):
        told["best"] = {**best, "lora": paths.lora_name(folder.name, paths.BEST)}
    return told


def _holds(published: Path, source: Path) -> bool:
    """Whether it is the copy of that LoRA, and not of an earlier one."""
    try:
        return published.stat().st_mtime_ns >= source.stat().st_mtime_ns
    except OSError:
        return False


def launch(folder: RunFolder) -> dict:
    """The identity of the process launched last, {} before the first, or when it can't be read.

    A worker is known by its lock as well.
    """
    try:
        return _json(folder.path / LAUNCH)
    except ValueError:
        return {}


def launch_damage(folder: RunFolder) -> str:
    """A sentence when that file can't be read, else ""."""
    try:
        _json(folder.path / LAUNCH)
        return ""
    except ValueError:
        return f"{folder.path / LAUNCH} is damaged and left out: it is written again when the run goes on."


def turn(folder: RunFolder) -> dict | None:
    """What a run says that waits for its turn (turns.py); None for one that doesn't, {} where it can't be read."""
    try:
        return read_json(folder.path / TURN)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        return {}


def job(folder: RunFolder) -> dict:
    """job.json: graph, settings, prompts; {} when there is none. Raises ValueError naming a damaged file."""
    made = _json(folder.job)
    if not isinstance(made.get("name", ""), str):
        raise damaged(folder.job, "'name' isn't a text")
    return made


def check_job(folder: RunFolder) -> None:
    """Raises as job() does. It may be large and is asked for often: one that was sound is read when it has changed."""
    try:
        found = os.stat(folder.job)
    except OSError:
        job(folder)
        return
    now = (found.st_mtime_ns, found.st_size, found.st_ino)
    if _sound.get(str(folder.job)) != now:
        job(folder)
        _sound[str(folder.job)] = now


_sound: dict[str, tuple[int, int, int]] = {}


def _json(path: Path) -> dict:
    try:
        return read_json(path)
    except FileNotFoundError:
        return {}
    except (OSError, RecursionError) as error:
        raise damaged(path, error) from None
