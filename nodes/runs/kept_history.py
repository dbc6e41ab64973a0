"""A long history beside its log, so that a server that was restarted needn't parse all of the log again.

history.bin is a signature, a line of JSON, and the columns' numbers. It is a copy only: one that is damaged, written by
another version, or by somebody without this ComfyUI's key, is as good as none.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import io
import json
from array import array
from typing import TYPE_CHECKING

from ...mixgrpo_engine import __version__
from ...mixgrpo_engine.records.files import written_beside
from . import signature
from .columns import Columns

if TYPE_CHECKING:
    from .history import History

FILE = "history.bin"
PLAIN = ("offset", "best", "notices", "stages", "schedule", "failure", "damaged")
COLUMNS = ("iterations", "evaluations")


def keep(history: History) -> None:
    """Writes what the history holds now; a disk that takes nothing is no error."""
    columns = [getattr(history, name) for name in COLUMNS]
    about = {
        "version": __version__,
        "beginning": history.beginning.hex(),
        "samples": [(iteration, line.decode()) for iteration, line in history.samples.items()],
        "columns": [[len(each), list(each.values)] for each in columns],
        **{name: getattr(history, name) for name in PLAIN},
    }
    numbers = b"".join(part.tobytes() for each in columns for part in (each.iterations, *each.values.values()))
    content = json.dumps(about).encode() + b"\n" + numbers
    with contextlib.suppress(OSError, ValueError), written_beside(history.folder.path / FILE) as temporary:
        temporary.write_bytes(_digest(content) + content)


def load(history: History) -> None:
    """Fills an empty history with what was kept of it, if anything was; of which log, its `beginning` tells."""
    try:
        data = (history.folder.path / FILE).read_bytes()
        size = hashlib.sha256().digest_size
        if not hmac.compare_digest(data[:size], _digest(data[size:])):
            return
    except (OSError, ValueError):
        return
    file = io.BytesIO(data[size:])
    about = json.loads(file.readline())
    if about["version"] != __version__:
        return

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


def _digest(content: bytes) -> bytes:
    return hmac.new(signature.install_key(), FILE.encode() + content, hashlib.sha256).digest()
