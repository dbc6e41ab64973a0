"""A disk that is full or can't be written, told in one sentence; libraries say it in many ways, or not at all."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
READ_ONLY = (errno.EROFS,)
FORBIDDEN = (errno.EACCES, errno.EPERM)

# safetensors gives the system's number as text; torch's writer only says that it couldn't.
_NUMBER = re.compile(r"\(?os error (\d+)\)?|code: (\d+), kind:")
_TORCH_WRITES = re.compile(r"PytorchStreamWriter|inline_container|file write failed|unexpected pos")
LITTLE = 2**20  # bytes: with less the disk counts as full


class DiskTrouble(OSError):
    """Says one sentence; errno is the system's."""

    def __str__(self) -> str:
        return str(self.args[1])


def trouble(error: BaseException, place: str | os.PathLike = "") -> DiskTrouble | None:
    """The error as DiskTrouble if it, or what it was raised from, is one; else None.

    place: what was to be written. Only then is a missing permission told: it may be one to read.
    """
    for each in _chain(error):
        if isinstance(each, DiskTrouble):
            return each
        number, told = _number(each, place), place or getattr(each, "filename", None)
        where = f" ({told})" if told else ""
        if number in FULL:
            return DiskTrouble(
                number, f"The disk is full{where}: free some space on it and start again. What was saved is kept."
            )
        if number in READ_ONLY:
            return DiskTrouble(number, f"The disk is read-only{where}: make it writable and start again.")
        if number in FORBIDDEN and place:
            sentence = f"{told} can't be written: close what has it open, or give ComfyUI's user the right to."
            return DiskTrouble(number, sentence)
    return None


def standing(place: Path) -> DiskTrouble | None:
    """What keeps the disk of an existing folder from being written now; None when nothing does, or it can't be told."""
    number = 0
    with suppress(OSError):
        if shutil.disk_usage(place).free < LITTLE:
            number = errno.ENOSPC
        if hasattr(os, "statvfs") and os.statvfs(place).f_flag & os.ST_RDONLY:
            number = errno.EROFS
    return trouble(OSError(number, ""), place)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        error = error.__cause__


def _number(error: BaseException, place: str | os.PathLike) -> int | None:
    if isinstance(error, OSError):
        return error.errno
    text = str(error)[:10_000]
    if type(error).__name__ == "SafetensorError" and (found := _NUMBER.search(text)):
        return int(found[1] or found[2])
    if isinstance(error, RuntimeError) and place and _TORCH_WRITES.search(text):
        with suppress(OSError):
            if shutil.disk_usage(_existing(Path(place))).free < LITTLE:
                return errno.ENOSPC
    return None


def _existing(path: Path) -> Path:
    return next(each for each in (path, *path.parents) if each.exists())
