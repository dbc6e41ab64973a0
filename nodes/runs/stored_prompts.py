"""A run's prompts, in a file beside job.json: there may be a million, and job.json is read for every answer.

prompts.json is a list with a prompt or item a line (PromptSet.as_dict), the held-out ones first. job.json, which is
signed, holds how many there are of each kind, and the file's sha256. Jobs of older versions hold the prompts
themselves.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, Any

from ...mixgrpo_engine.prompts import name_of
from ...mixgrpo_engine.records.files import written_beside
from ...mixgrpo_engine.records.run_folder import RunFolder

FILE = "prompts.json"
LONGEST = 2**20  # characters of a line that is shown


def write(folder: RunFolder, prompts: Mapping[str, list]) -> dict[str, Any]:
    """Writes {"train", "held_out"}; what job.json holds instead."""
    listed = [*prompts["held_out"], *prompts["train"]]
    lines = (json.dumps(each, separators=(",", ":")) for each in listed)
    data = ("[" + ",\n".join(lines) + "]").encode()
    with written_beside(folder.path / FILE) as temporary, open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return {**{kind: len(prompts[kind]) for kind in ("train", "held_out")}, "sha256": hashlib.sha256(data).hexdigest()}


def are_apart(job: Mapping[str, Any]) -> bool:
    """Whether a stored job's prompts are in their file."""
    told = job.get("prompts")
    return isinstance(told, dict) and "sha256" in told


def read(folder: RunFolder, job: Mapping[str, Any]) -> dict[str, list]:
    """{"train", "held_out"}, all of them. Raises ValueError when they aren't those of the job."""
    told = job["prompts"]
    if not are_apart(job):
        return {"train": told["train"], "held_out": told["held_out"]}
    try:
        data = (folder.path / FILE).read_bytes()
    except FileNotFoundError:
        data = b""
    if hashlib.sha256(data).hexdigest() != told["sha256"]:
        raise ValueError(
            f"{folder.path / FILE} isn't the one that the run began with: queue the run's graph with "
            "if_exists = restart, or under another run_name."
        )
    listed = json.loads(data)
    return {"train": listed[told["held_out"] :], "held_out": listed[: told["held_out"]]}


def counts(job: Mapping[str, Any]) -> dict[str, int]:
    """How many prompts a job has of each kind, whatever else it may hold there."""
    told = job.get("prompts")
    found = {kind: told.get(kind) if isinstance(told, dict) else None for kind in ("train", "held_out")}
    return {
        kind: len(value) if isinstance(value, list) else max(0, value) if type(value) is int else 0
        for kind, value in found.items()
    }


def measured(held_out: int | None) -> str:
    """What evaluations score, in words; held_out: how many prompts are, None where that can't be read."""
    return "measured training prompts" if held_out == 0 else "held-out prompts"


def first(folder: RunFolder, job: Mapping[str, Any], most: int) -> dict[str, Any]:
    """{"train", "held_out", "total": counts()} with at most so many of each kind, as far as they can be read.

    The others aren't read.
    """
    total, told = counts(job), job.get("prompts")
    some: dict[str, list[str]] = {"train": [], "held_out": []}
    if are_apart(job):
        with suppress(OSError, ValueError), open(folder.path / FILE, encoding="utf-8") as file:
            some["held_out"] = _some(file, total["held_out"], most)
            some["train"] = _some(file, most, most)
    elif isinstance(told, dict):
        some |= {kind: [*map(name_of, told[kind][:most])] for kind in some if isinstance(told.get(kind), list)}
    return {**some, "total": total}


def _some(file: IO[str], lines: int, most: int) -> list[str]:
    """The first ones, at most so many, of the file's next prompts."""
    found: list[str] = []
    for _ in range(lines):
        line = file.readline(LONGEST)
        if not line:
            break
        if len(found) < most:
            found.append(name_of(json.loads(line.strip().removeprefix("[").removesuffix("]").removesuffix(","))))
    return found
