"""Signs job.json, so that only this ComfyUI's own jobs are ever executed.

Run folders lie under ComfyUI's output folder, into which any client may upload files; the key lies elsewhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
from pathlib import Path

from ...mixgrpo_engine.records.files import remove, replace
from . import graph

FIELD = "signature"
KEY_BYTES = 32


def signed(job: dict, key: bytes) -> dict:
    """The job with its signature: HMAC-SHA256 over everything else in it."""
    content = {name: value for name, value in job.items() if name != FIELD}
    return {**content, FIELD: _digest(content, key)}


def require(job: dict, run_id: str, key: bytes) -> None:
    """Raises ValueError with one sentence when the job wasn't signed with this key for this run."""
    if job.get("run_id") != run_id or not _fits(job, key):
        raise ValueError(
            f"job.json of run {run_id} was not written by this ComfyUI, or was changed since, and is not executed: "
            "queue the run's graph with if_exists = restart, or under another run_name."
        )


def _fits(job: dict, key: bytes) -> bool:
    given = job.get(FIELD)
    if not isinstance(given, str) or not given.isascii():
        return False
    try:
        return hmac.compare_digest(given, signed(job, key)[FIELD])
    except (ValueError, RecursionError):
        # Values that no job of ours holds (NaN, or nested too deep).
        return False


def install_key() -> bytes:
    """This installation's random key, made at the first call. Raises ValueError when its file is damaged."""
    path = _key_file()
    if not path.exists():
        _create(path)
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise ValueError(f"{path} is damaged: delete it, and queue running graphs anew with if_exists = restart.")
    return key


def _key_file() -> Path:
    import folder_paths

    # Right in the user folder: ComfyUI's routes reach only the folders of single users inside it.
    return Path(folder_paths.get_user_directory()) / "mixgrpo.key"


def _create(path: Path) -> None:
    """Two servers may do this at once: the first one's key stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secrets.token_bytes(KEY_BYTES))
    try:
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    except OSError:
        # A file system without hard links.
        replace(temporary, path)
    finally:
        remove(temporary)


def _digest(content: dict, key: bytes) -> str:
    return hmac.new(key, graph.canonical(content).encode(), hashlib.sha256).hexdigest()
