"""A run folder's files as the server reads them.

Any client may write into ComfyUI's output folder, and disks fail: a file that doesn't hold what it should is named in
one sentence, and harms no other run.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ...mixgrpo_engine.records.files import read_json
from ...mixgrpo_engine.records.run_folder import STATES, RunFolder


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
        raise _damaged(path, error) from None


def _damaged(path: Path, why: object) -> ValueError:
    return ValueError(f"{path} is damaged ({why}): restore it, or remove the folder.")


def is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e18


def _is_text(value: object) -> bool:
    return isinstance(value, str) and "\0" not in value


def _is_rewards(value: object) -> bool:
    return isinstance(value, dict) and all(item is None or is_number(item) for item in value.values())


def _is_best(value: object) -> bool:
    return (
        isinstance(value, dict)
        and is_number(value.get("iteration"))
        and (value.get("score") is None or is_number(value["score"]))
        and (value.get("lora") is None or _is_text(value["lora"]))
    )


def _is_sparkline(value: object) -> bool:
    return (
        isinstance(value, dict)
        and is_number(value.get("every"))
        and isinstance(value.get("values"), list)
        and all(item is None or is_number(item) for item in value["values"])
    )


STATUS_FIELDS = {
    "a number": (
        is_number, ("iteration", "iterations", "checkpoint", "eta_seconds", "updated", "phase_done", "phase_total",
            "images_per_second"),
    ),
    "a text": (_is_text, ("stage", "message", "node_id", "phase", "sample", "lora")),
    "iteration, score and lora": (_is_best, ("best",)),
    "numbers by name": (_is_rewards, ("reward", "held_out_reward", "held_out_strict", "held_out", "memory")),
    "a list of numbers and its step": (_is_sparkline, ("sparkline",)),
}  # fmt: skip
