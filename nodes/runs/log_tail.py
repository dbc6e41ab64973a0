"""The end of a worker's log, which may be long."""

from __future__ import annotations

from pathlib import Path

from ...mixgrpo_engine.records.readable import readable

MOST = 2**20


def read(path: Path, most: int) -> dict:
    """{"text": whole lines of the last `most` bytes, "size": the log's size}."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - most - 1))
            tail = file.read(most + 1)
    except FileNotFoundError:
        return {"text": "", "size": 0}
    if size > most:
        # What comes before the first line's end is the rest of a line; where none ends, of the only one.
        tail = tail[tail.find(b"\n") + 1 :]
    return {"text": readable(tail.decode("utf-8", "replace"), MOST), "size": size}
