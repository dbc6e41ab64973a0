"""A run's event log read in pieces, so that a log of any size neither fills the memory nor holds up the server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from ...mixgrpo_engine.records.events import parse

LONGEST = 4 * 2**20  # bytes of a line; what is longer is damaged
WORK_SECONDS = 0.002
PAUSE_SECONDS = 0.001

PROGRESS = b'{"type": "progress"'
"""What a line begins with that only says that the run is alive; most lines do."""


def lines(path: Path, offset: int = 0) -> Iterator[tuple[bytes, int]]:
    """(a complete line, the offset after it) from a byte offset on; none where there is no log.

    It pauses often: a thread that parses without end would let the server's own one work every 5 ms only.
    """
    try:
        file = open(path, "rb", buffering=2**18)  # noqa: SIM115 - closed below; a missing file is no error
    except FileNotFoundError:
        return
    with file:
        file.seek(offset)
        until = time.monotonic() + WORK_SECONDS
        while line := file.readline(LONGEST):
            if not line.endswith(b"\n") and len(line) < LONGEST:
                return  # the writer is at it
            offset += len(line)
            yield line, offset
            if time.monotonic() > until:
                time.sleep(PAUSE_SECONDS)
                until = time.monotonic() + WORK_SECONDS


def read(path: Path, offset: int, most: int) -> tuple[list[dict], int, bool]:
    """Events from a byte offset on, out of about `most` bytes: (events, where to go on, whether there is more)."""
    found: list[dict] = []
    end = offset
    for line, after in lines(path, offset):
        if end - offset >= most:
            return found, end, True
        end = after
        if event := parse(line):
            found.append(event)
    return found, end, False


def size(path: Path) -> int:
    """Of a file in bytes, 0 where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def beginning(path: Path) -> bytes:
    """A log's first bytes: they hold the time of its first event, and so tell it from another one of its name."""
    try:
        with open(path, "rb") as file:
            return file.read(256)
    except FileNotFoundError:
        return b""


def newest(path: Path, offset: int, most: int) -> tuple[list[dict], int, bool]:
    """As read(), but the newest events, out of the last `most` bytes: whether there are more before them."""
    skip = max(offset, size(path) - most)
    if skip > offset:
        with open(path, "rb") as file:
            file.seek(skip)
            skip += len(file.readline(LONGEST))
    found, end, _ = read(path, skip, 2 * most)
    return found, end, skip > offset
