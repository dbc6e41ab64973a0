"""A long history beside its log, so that a server that was restarted needn't parse all of the log again.

history.bin is a copy (kept_copy.py): a line of JSON, and the columns' numbers.
"""

from __future__ import annotations

import io
import json
from array import array
from typing import TYPE_CHECKING

from . import kept_copy
from .columns import Columns

if TYPE_CHECKING:
    from .history import History

FILE = "history.bin"
PLAIN = ("offset", "best", "notices", "stages", "schedule", "failure", "damaged")
COLUMNS = ("iterations", "evaluations")


def keep(history: History) -> None:
    """Writes what the history holds now."""
    columns = [getattr(history, name) for name in COLUMNS]
    about = {
        "beginning": history.beginning.hex(),
        "samples": [(iteration, line.decode()) for iteration, line in history.samples.items()],
        "columns": [[len(each), list(each.values)] for each in columns],
        **{name: getattr(history, name) for name in PLAIN},
    }
    numbers = b"".join(part.tobytes() for each in columns for part in (each.iterations, *each.values.values()))
    kept_copy.write(history.folder.path / FILE, json.dumps(about).encode() + b"\n" + numbers)


def load(history: History) -> None:
    """Fills an empty history with what was kept of it, if anything was; of which log, its `beginning` tells."""
    content = kept_copy.read(history.folder.path / FILE)
    if content is None:
        return
    file = io.BytesIO(content)
    about = json.loads(file.readline())

    def numbers(kind: str, rows: int) -> array:
        found = array(kind)
        found.frombytes(file.read(rows * found.itemsize))
        return found

    for name, (rows, names) in zip(COLUMNS, about["columns"], strict=True):
        columns = Columns()
        columns.iterations = numbers("q", rows)
        columns.values = {each: numbers("d", rows) for each in names}
        setattr(history, name, columns)
    for name in PLAIN:
        setattr(history, name, about[name])
    history.beginning = bytes.fromhex(about["beginning"])
    history.samples = {iteration: line.encode() for iteration, line in about["samples"]}
