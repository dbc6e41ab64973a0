"""Files that others read while they are written: always whole, and patient with Windows."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from . import disk

PATIENCE_SECONDS = 30.0 if os.name == "nt" else 2.0
"""How long a file may be in another program's hands. Only Windows minds; its disks can be mounted elsewhere, too."""

Result = TypeVar("Result")


def patiently(action: Callable[[], Result]) -> Result:
    """action(), again and again while another program holds its file: a reader, an antivirus, an indexer.

    action must be one that can be done again. Raises its OSError when that doesn't pass within PATIENCE_SECONDS.
    """
    deadline, pause = time.monotonic() + PATIENCE_SECONDS, 0.02
    while True:
        try:
            return action()
        except OSError as error:
            # A folder isn't empty while something in it is still held by who looked at it when it was deleted.
            held = isinstance(error, PermissionError) or error.errno in (errno.ENOTEMPTY, errno.EBUSY)
            if not held or time.monotonic() > deadline:
                raise
        time.sleep(pause)
        pause = min(2 * pause, 0.5)


def replace(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """os.replace, patiently."""
    patiently(lambda: os.replace(source, target))


def remove(path: Path) -> None:
    """A file, a link (not what it leads to) or a folder with all that is in it, patiently; none is no error."""

    def attempt() -> None:
        while os.path.lexists(path):
            with contextlib.suppress(FileNotFoundError):  # somebody else removes it, too
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()

    patiently(attempt)


def set_aside(path: Path) -> Path:
    """Gives what can't be used a name that nothing looks for, beside it, for people to look at; the new path."""
    for number in itertools.count(1):
        target = path.with_name(f"{path.name}.damaged{f'-{number}' if number > 1 else ''}")
        if not os.path.lexists(target):
            replace(path, target)
            return target
    raise AssertionError


@contextlib.contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """A temporary path, renamed into place at the end: a reader, or a power cut, never sees half of the file.

    Nothing is left when that fails. Raises DiskTrouble with a sentence for a disk that takes nothing.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_native_id()}.tmp")
    try:
        yield temporary
        replace(temporary, path)
    except Exception as error:  # whatever a library raises over a full disk
        told = disk.trouble(error, path)
        with contextlib.suppress(OSError):
            remove(temporary)
        if told is None:
            raise
        raise told from error


def write_json(path: Path, value: object) -> None:
    """Writes JSON, whole or not at all; raises as written_beside()."""
    with written_beside(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())


def sha256(path: Path) -> str:
    """Of a file's content, as hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(2**20):
            digest.update(part)
    return digest.hexdigest()


def read_json(path: Path) -> dict:
    """A JSON object. Raises FileNotFoundError, or ValueError naming the file when it holds anything else."""
    text = patiently(lambda: path.read_bytes())
    try:
        value = json.loads(text.decode())
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ValueError(f"{path} is damaged (it holds no JSON object): restore it, or remove the folder it is in.")
    return value
