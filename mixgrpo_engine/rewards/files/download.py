"""Downloads a known file from the Hugging Face hub: resumed, checked by its hash, never half there.

The hub is the one that HF_ENDPOINT names; with HF_HUB_OFFLINE nothing is fetched. No token is sent: the files are open
to everybody.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from ...records.files import remove, replace
from .catalog import KnownFile, size_text

CHUNK = 1024 * 1024  # bytes between two looks at check()
TIMEOUT = 20  # seconds without a byte before the connection counts as cut
SPARE = 200 * 10**6  # bytes of disk that a download leaves free


class DownloadError(RuntimeError):
    """A download that can't be made, in one sentence."""


def download(
    file: KnownFile,
    folder: str | Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
    check: Callable[[], None] = lambda: None,
) -> Path:
    """The file in `folder`, downloaded unless it is already there.

    progress(bytes so far, bytes of all) is called after every chunk. check() is called between chunks and may raise to
    cancel. What has come so far stays in a .part file, and the next call goes on with it; a file with a wrong hash is
    removed. Raises DownloadError.
    """
    target = Path(folder) / file.name
    if target.is_file():
        return target
    _refuse_offline(file)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _alone(target, check):
        if target.is_file():  # another process was faster
            return target
        address, total, expected = _look_up(file)
        # The hash in its name: what another revision left is never gone on with.
        part = target.with_name(f"{target.name}.{expected[:12]}.part")
        with suppress(FileNotFoundError):
            if part.stat().st_size > total:
                remove(part)
        _check_space(file, part, total)
        _fetch_all(file, address, part, total, progress, check)
        _check_hash(file, part, expected, check)
        replace(part, target)
    return target


def _refuse_offline(file: KnownFile) -> None:
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise DownloadError(
            f"{file.name} isn't downloaded because HF_HUB_OFFLINE is set: unset it, or put the file there yourself."
        )


@contextmanager
def _alone(target: Path, check: Callable[[], None]) -> Iterator[None]:
    """Inside it no other process downloads the same file."""
    from filelock import FileLock, Timeout

    lock = FileLock(f"{target}.lock")
    while True:
        try:
            lock.acquire(timeout=0.5)
            break
        except Timeout:
            check()
    try:
        yield
    finally:
        lock.release()
        with suppress(OSError):  # still open elsewhere, on Windows
            Path(lock.lock_file).unlink()


def _look_up(file: KnownFile) -> tuple[str, int, str]:
    """(address, bytes, expected hash) of the file, as the hub states them."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import HfHubHTTPError

    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or None
    url = hf_hub_url(file.repo, file.path, revision=file.revision, endpoint=endpoint)
    host = urlsplit(url).netloc
    # The base of all errors of the HTTP library that this version of huggingface_hub is built on.
    http_errors: type[Exception] = HfHubHTTPError.__bases__[0]
    try:
        metadata = get_hf_file_metadata(url, token=False)
    except (http_errors, OSError, ValueError) as error:
        raise DownloadError(f"{host} doesn't give {file.repo}/{file.path} ({_first_line(error)}).") from None
    stated = (metadata.etag or "").lower()
    if not metadata.size or not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", stated):
        raise DownloadError(f"{host} doesn't state size and hash of {file.repo}/{file.path}: download it yourself.")
    if file.sha256 and len(stated) == 64 and stated != file.sha256:
        raise DownloadError(f"{host} offers another {file.repo}/{file.path} than the known one: it isn't downloaded.")
    if urlsplit(metadata.location).scheme not in ("https", urlsplit(url).scheme):
        raise DownloadError(f"{host} sends {file.name} over an unsafe connection: download it yourself.")
    return metadata.location, metadata.size, file.sha256 or stated


def _check_space(file: KnownFile, part: Path, total: int) -> None:
    have = part.stat().st_size if part.exists() else 0
    free = shutil.disk_usage(part.parent).free
    if free < total - have + SPARE:
        raise DownloadError(
            f"{file.name} needs {size_text(total - have + SPARE)} of free space in {part.parent}, where there are "
            f"{size_text(free)}: make room, or put the file into another model folder."
        )


def _fetch_all(
    file: KnownFile,
    address: str,
    part: Path,
    total: int,
    progress: Callable[[int, int], None],
    check: Callable[[], None],
) -> None:
    """Appends to `part` until it holds `total` bytes: a cut connection is taken up again as long as bytes come."""
    while (start := part.stat().st_size if part.exists() else 0) < total:
        try:
            _fetch(address, part, start, total, progress, check)
            reason = "the connection ended"
        except (OSError, http.client.HTTPException) as error:
            reason = _first_line(error)
        have = part.stat().st_size if part.exists() else 0
        if have <= start:
            raise DownloadError(
                f"The download of {file.name} stopped after {size_text(have)} of {size_text(total)} ({reason}): "
                "queue again to go on from there."
            )
    progress(total, total)


def _fetch(
    address: str,
    part: Path,
    start: int,
    total: int,
    progress: Callable[[int, int], None],
    check: Callable[[], None],
) -> None:
    """One connection's worth of the file, from byte `start`."""
    headers = {"Range": f"bytes={start}-", "Accept-Encoding": "identity", "User-Agent": "mixgrpo"}
    request = urllib.request.Request(address, headers=headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        if answer.status != 206:  # it doesn't resume, and sends everything
            start = 0
        with open(part, "r+b" if start else "wb") as file:
            file.seek(start)
            done = start
            while done < total:
                check()
                chunk = answer.read1(min(CHUNK, total - done))
                if not chunk:
                    return
                file.write(chunk)
                done += len(chunk)
                progress(done, total)


def _check_hash(file: KnownFile, part: Path, expected: str, check: Callable[[], None]) -> None:
    """Removes the part when it isn't the expected file."""
    if len(expected) == 64:
        digest = hashlib.sha256()
    else:  # a small file in git itself: its etag is git's hash of it
        digest = hashlib.sha1(f"blob {part.stat().st_size}\0".encode(), usedforsecurity=False)
    with open(part, "rb") as content:
        while chunk := content.read(CHUNK):
            check()
            digest.update(chunk)
    if digest.hexdigest() != expected:
        remove(part)
        raise DownloadError(
            f"{file.name} has arrived damaged or isn't the known file (its hash is {digest.hexdigest()[:12]}..., not "
            f"{expected[:12]}...): it was removed, try again."
        )


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".:") if text else type(error).__name__
