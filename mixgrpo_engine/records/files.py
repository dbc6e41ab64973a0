"""Files that others read while they are written: always whole, and patient with Windows."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import time
from pathlib import Path

PATIENCE_SECONDS = 2.0


def replace(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """os.replace that waits for readers: Windows refuses to replace a file that another process has open."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            os.replace(source, target)
            return
        except PermissionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def remove(path: Path) -> None:
    """A file, a link (not what it leads to) or a folder with all that is in it; with the same patience."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while os.path.lexists(path):
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        except FileNotFoundError:
            continue
        except PermissionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def set_aside(path: Path) -> Path:
    """Gives what can't be used a name that nothing looks for, beside it, for people to look at; the new path."""
    for number in itertools.count(1):
        target = path.with_name(f"{path.name}.damaged{f'-{number}' if number > 1 else ''}")
        if not os.path.lexists(target):
            replace(path, target)
            return target
    raise AssertionError


def write_json(path: Path, value: object) -> None:
    """Writes JSON beside the file and renames it into place: a reader, or a power cut, never sees half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())
    replace(temporary, path)


def sha256(path: Path) -> str:
    """Of a file's content, as hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(2**20):
            digest.update(part)
    return digest.hexdigest()


def read_json(path: Path) -> dict:
    """A JSON object. Raises FileNotFoundError, or ValueError naming the file when it holds anything else."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except PermissionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
            continue
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise ValueError(f"{path} is damaged (it holds no JSON object): restore it, or remove the folder it is in.")
        return value
