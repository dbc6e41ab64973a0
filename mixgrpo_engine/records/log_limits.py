"""What keeps a run's two logs from filling a disk, however long it trains."""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from .files import written_beside

EVENTS_BYTES = 100 * 10**6
"""Of events.jsonl, before lines in between are left out."""

NEWEST = 1000
"""Of each type that stay in any case."""

WORKER_BYTES = 50 * 10**6
"""Of worker.log, before its first half goes."""

ALWAYS = ("stage", "schedule", "best", "lora", "done", "cancelled", "failed")
_TYPE = re.compile(rb'\{"type": "(\w+)"')
_ITERATION = re.compile(rb'"iteration": (\d{1,15})\b')


def thin_out(path: Path, first: dict) -> int:
    """Leaves out about half of the events of each type, evenly over the iterations, and signs of life.

    The first and the newest of each type stay, and evaluations that were the best. first: an event to begin with, so
    that who has read the file before notices that it is another one. Returns the file's size then.
    """
    counted: Counter[str] = Counter()
    last: dict[str, int] = {}
    best = set()
    for kind, iteration, _ in _lines(path):
        counted[kind] += 1
        last[kind] = max(last.get(kind, 0), iteration)
        if kind == "best":
            best.add(iteration)
    passed: Counter[str] = Counter()
    before: dict[str, int] = {}
    with written_beside(path) as temporary, open(temporary, "wb") as file:
        file.write(json.dumps(first, allow_nan=False).encode() + b"\n")
        for kind, iteration, line in _lines(path):
            passed[kind] += 1
            # A resumed run has gone back some iterations.
            gap = abs(iteration - before[kind]) if kind in before else math.inf
            spaced = gap >= 2 * last[kind] / counted[kind] if last[kind] else passed[kind] % 2 == 1
            if (
                passed[kind] > counted[kind] - NEWEST
                or kind in ALWAYS
                or (kind == "evaluation" and iteration in best)
                or (kind != "progress" and spaced)
            ):
                before[kind] = iteration
                file.write(line)
        return file.tell()


def cut(log: Path) -> None:
    """Leaves the first half of worker.log out when it is too long. The process that writes it goes on at its end.

    Not on Windows, where that process would go on where it was, behind a hole.
    """
    if os.name == "nt" or not log.exists() or log.stat().st_size <= WORKER_BYTES:
        return
    with open(log, "r+b") as file:
        file.seek(-WORKER_BYTES // 2, 2)
        file.readline()
        rest = file.read()
        file.seek(0)
        file.truncate()
        file.write(b"(what came before is left out)\n" + rest)


def _lines(path: Path) -> Iterator[tuple[str, int, bytes]]:
    """(type, iteration, line) of each whole event; 0 for those that tell no iteration."""
    with open(path, "rb") as file:
        for line in file:
            if (kind := _TYPE.match(line)) and line.endswith(b"}\n"):
                iteration = _ITERATION.search(line)
                yield kind[1].decode(), int(iteration[1]) if iteration else 0, line
