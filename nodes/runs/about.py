"""What people call a run and note of it: about.json. It is theirs alone: nothing is trained or executed by it."""

from __future__ import annotations

from typing import Any

from ...mixgrpo_engine.records.files import read_json, write_json
from ...mixgrpo_engine.records.readable import readable
from ...mixgrpo_engine.records.run_folder import RunFolder

LONGEST = {"name": 200, "note": 10_000}


def read(folder: RunFolder) -> dict[str, str]:
    """{"name", "note"} as far as they were given; a damaged file costs them, never the run."""
    try:
        told = read_json(folder.path / "about.json")
    except (OSError, ValueError, RecursionError):
        return {}
    return {name: told[name] for name in LONGEST if isinstance(told.get(name), str)}


def check(given: Any) -> dict[str, str]:
    """What a request gives. Raises ValueError with one sentence for anything else."""
    if not isinstance(given, dict) or not given.keys() <= LONGEST.keys() or not given:
        raise ValueError('The request must be a JSON object with "name", "note" or both.')
    for name, text in given.items():
        if not isinstance(text, str) or len(text) > LONGEST[name]:
            raise ValueError(f"{name} must be a text of at most {LONGEST[name]} characters.")
    return {name: readable(text.strip(), LONGEST[name]) for name, text in given.items()}


def write(folder: RunFolder, given: dict[str, str]) -> None:
    """Replaces what is given; an empty name is the one that the run was queued with."""
    write_json(folder.path / "about.json", {**read(folder), **given})
