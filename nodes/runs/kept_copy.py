"""A copy of what was made of long or many files, so that the next server needn't read them again.

It is a copy only, signed with this ComfyUI's key: one that is damaged, written by another version, or by somebody
without the key, is as good as none.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
from pathlib import Path

from ...mixgrpo_engine import __version__, records
from ...mixgrpo_engine.records.files import written_beside
from . import signature


def write(path: Path, content: bytes) -> bool:
    """Whether it is kept now: a disk that takes nothing is no error."""
    try:
        with written_beside(path) as temporary:
            temporary.write_bytes(_digest(path, content) + content)
        return True
    except (OSError, ValueError):
        return False


def read(path: Path) -> bytes | None:
    """None where there is none of ours."""
    try:
        data, size = path.read_bytes(), hashlib.sha256().digest_size
        return data[size:] if hmac.compare_digest(data[:size], _digest(path, data[size:])) else None
    except (OSError, ValueError):
        return None


def _digest(path: Path, content: bytes) -> bytes:
    return hmac.new(signature.install_key(), f"{path.name} {_code()}\n".encode() + content, hashlib.sha256).digest()


@functools.cache
def _code() -> str:
    """Changes with the files that make what is kept: a version is many commits long."""
    rooms = Path(__file__).parent, Path(records.__file__).parent
    return f"{__version__} {max(file.stat().st_mtime_ns for room in rooms for file in room.glob('*.py'))}"
