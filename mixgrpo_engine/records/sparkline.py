"""A run's reward in at most 64 numbers, for lists of many runs: it grows with the run and never reads its log."""

from __future__ import annotations

from typing import Any

LENGTH = 64


def extended(line: Any, iteration: int, value: float | None) -> dict:
    """The line {"every": k, "values": [...]} with an iteration's value; value i is that of iteration 1 + i * k.

    line: the one before, None for none. iteration: counted from 1. What a resumed run repeats replaces what was there.
    When 64 values are full every second one is dropped.
    """
    every, values = (line["every"], line["values"]) if isinstance(line, dict) else (1, [])
    before = iteration - 1
    while before // every >= LENGTH:
        values, every = values[::2], every * 2
    values = values[: -(-before // every)]
    if before % every == 0:
        gap = before // every - len(values)  # of a run that older versions began
        values = [*values, *[None] * gap, value]
    return {"every": every, "values": values}
