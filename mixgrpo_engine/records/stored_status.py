"""What a status.json may hold: any client may write into a run folder, and disks fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .files import read_json

STATES = ("queued", "waiting", "running", "finished", "failed", "cancelled")


def read(path: Path) -> dict:
    """Raises FileNotFoundError, or ValueError or OSError, with a sentence, when it doesn't hold what it should."""
    try:
        told = read_json(path)
    except RecursionError as error:
        raise damaged(path, error) from None
    if told.get("state") not in STATES:
        raise damaged(path, f"its state is '{str(told.get('state'))[:40]}'")
    for kind, (fits, names) in FIELDS.items():
        for name in names:
            if told.get(name) is not None and not fits(told[name]):
                raise damaged(path, f"'{name}' isn't {kind}")
    return told


def damaged(path: Path, why: object) -> ValueError:
    return ValueError(f"{path} is damaged ({why}): restore it, or remove the folder.")


def is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e18


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_path(value: object) -> bool:
    return isinstance(value, str) and "\0" not in value


def _is_rewards(value: object) -> bool:
    return isinstance(value, dict) and all(item is None or is_number(item) for item in value.values())


def _is_best(value: object) -> bool:
    return (
        isinstance(value, dict)
        and is_number(value.get("iteration"))
        and (value.get("score") is None or is_number(value["score"]))
        and (value.get("lora") is None or _is_path(value["lora"]))
    )


def _is_sparkline(value: object) -> bool:
    return (
        isinstance(value, dict)
        and is_number(value.get("every"))
        and isinstance(value.get("values"), list)
        and all(item is None or is_number(item) for item in value["values"])
    )


FIELDS = {
    "a number": (
        is_number, ("iteration", "iterations", "checkpoint", "eta_seconds", "updated", "phase_done", "phase_total",
            "images_per_second", "train_seconds"),
    ),
    "a text": (_is_text, ("stage", "message", "node_id", "phase")),
    "the name of a file": (_is_path, ("sample", "lora")),
    "iteration, score and lora": (_is_best, ("best",)),
    "numbers by name": (_is_rewards, ("reward", "held_out_reward", "held_out_strict", "held_out", "memory")),
    "a list of numbers and its step": (_is_sparkline, ("sparkline",)),
}  # fmt: skip
