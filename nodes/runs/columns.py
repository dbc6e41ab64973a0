"""Numbers by iteration, kept as columns: small in memory, quick to thin out, compact in JSON."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Mapping
from typing import Any

MOST_ROWS = 1_000_000
MOST_COLUMNS = 64
MISSING = math.nan

LAST = ("iteration", "window_start", "window_stop", "forwards", "time", "memory_now", "memory_peak")
"""Columns whose mean over several iterations would say nothing: there the last value counts."""


class Columns:
    """Rows in the order of their iterations. A resumed run repeats some: what it had done after them is gone."""

    def __init__(self) -> None:
        self.iterations = array("q")
        self.values: dict[str, array] = {}

    def __len__(self) -> int:
        return len(self.iterations)

    def put(self, iteration: int, row: Mapping[str, Any]) -> None:
        """row: column -> value; what isn't a finite number is missing."""
        place = bisect_left(self.iterations, iteration)
        if place < len(self):
            for column in (self.iterations, *self.values.values()):
                del column[place:]
        if place >= MOST_ROWS:
            return
        self.iterations.append(iteration)
        for column in self.values.values():
            column.append(MISSING)
        for name, value in row.items():
            if not (type(value) is float or (type(value) is int and abs(value) < 2**63)) or not math.isfinite(value):
                continue
            if name not in self.values:
                if len(self.values) >= MOST_COLUMNS:
                    continue
                self.values[name] = array("d", [MISSING]) * len(self)
            self.values[name][place] = value

    def series(self, name: str) -> list[tuple[int, float]]:
        """[(iteration, value)] of a column, without the missing ones."""
        pairs = zip(self.iterations, self.values.get(name, ()), strict=False)
        return [(iteration, value) for iteration, value in pairs if not math.isnan(value)]

    def told(self, points: int = 0, after: int = -1) -> dict[str, list]:
        """Column -> values of the iterations above `after`, None where missing; columns without any value left out.

        points: at most so many rows, 0 for all of them: means over equal stretches of iterations.
        """
        import numpy as np

        first = bisect_left(self.iterations, after + 1)
        # Copies: an array that numpy looks into can't grow meanwhile.
        iterations = np.array(self.iterations[first:], dtype=np.int64)
        columns = {name: np.array(values[first:]) for name, values in self.values.items()}
        if points and len(iterations) > points:
            span = iterations[-1] - iterations[0] + 1
            edges = np.searchsorted(iterations, iterations[0] + np.arange(points) * span / points)
            starts = np.unique(edges)
            ends = np.append(starts[1:], len(iterations))
            iterations = iterations[ends - 1]
            columns = {
                name: values[ends - 1] if name in LAST else _means(values, starts) for name, values in columns.items()
            }
        told = {"iteration": iterations.tolist()}
        told |= {name: _told(values, name) for name, values in columns.items() if not np.isnan(values).all()}
        return told


def _means(values: Any, starts: Any) -> Any:
    """The mean of each stretch, without the missing values."""
    import numpy as np

    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.add.reduceat(np.where(known, values, 0.0), starts) / np.add.reduceat(known, starts)


def _told(values: Any, name: str) -> list:
    """With 6 significant digits, whole numbers as such: half the bytes."""
    import numpy as np

    known = ~np.isnan(values)
    if known.all() and (values == np.round(values)).all() and (np.abs(values) < 2**53).all():
        return values.astype(np.int64).tolist()
    if name == "time":
        values = np.round(values, 1)
    else:
        with np.errstate(divide="ignore", invalid="ignore"):
            digits = 5 - np.floor(np.log10(np.abs(values)))
            factor = 10.0 ** np.clip(np.where(np.isfinite(digits), digits, 0), 0, 22)
            values = np.round(values * factor) / factor
    return [value if there else None for value, there in zip(values.tolist(), known.tolist(), strict=True)]
