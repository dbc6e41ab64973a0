"""A copy of what was made of long or many files, so that the next server needn't read them again.

It is a copy only, signed with this ComfyUI's key: one that is damaged, written by another version, or by somebody
without the key, is as good as none.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
from pathlib import Path

from ...mixgrpo_engine import __version__
from ...mixgrpo_engine.records.files import written_beside
from . import signature


def write(path: Path, content: bytes) -> None:
    """A disk that takes nothing is no error."""
    with contextlib.suppress(OSError, ValueError), written_beside(path) as temporary:
        temporary.write_bytes(_digest(path, content) + content)


def read(path: Path) -> bytes | None:
    """None where there is none of ours."""
    try:
        data = path.read_bytes()
        content = data[hashlib.sha256().digest_size :]
        return content if hmac.compare_digest(data[: -len(content) or None], _digest(path, content)) else None
    except (OSError, ValueError):
        return None


def _digest(path: Path, content: bytes) -> bytes:
    about = f"{path.name} of version {__version__}\n".encode()
    return hmac.new(signature.install_key(), about + content, hashlib.sha256).digest()
