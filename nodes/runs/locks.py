"""An exclusive lock on a file: held until it is released or its process ends, also by kill -9."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    import msvcrt

    fcntl = None

TAKEN = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
"""How the system says that another process holds a lock; anything else is a real error."""


class FileLock:
    """Used as `with FileLock(path).hold(timeout=10):`, or by acquire() and release()."""

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self._file: int | None = None

    def acquire(self, timeout: float = 0.0, give_up: Callable[[], bool] = lambda: False) -> bool:
        """Takes the lock, waiting up to `timeout` seconds; False when it is still taken or give_up() is true.

        Raises OSError when the file can't be locked at all, as on some network drives.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file, deadline = _open(self.path), time.monotonic() + timeout
        try:
            while not _try_lock(file, self.path):
                if give_up() or time.monotonic() >= deadline:
                    return False
                time.sleep(0.1)
            self._file = file
        finally:
            if self._file != file:
                os.close(file)
        return True

    def release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def hold(self, timeout: float) -> FileLock:
        """For `with`. Raises TimeoutError when the lock stays taken for `timeout` seconds."""
        if not self.acquire(timeout):
            raise TimeoutError(f"{self.path} stayed locked for {timeout:g} s: another process holds it. Try again.")
        return self

    def __enter__(self) -> FileLock:
        return self

    def __exit__(self, *_) -> None:
        self.release()


def is_taken(path: Path) -> bool:
    """True while some process holds the lock. Raises OSError when the file can't be locked at all."""
    try:
        file = _open(path, create=False)
    except FileNotFoundError:
        return False
    try:
        # Shared, so that two who look at once don't take each other for the holder.
        return not _try_lock(file, path, shared=True)
    finally:
        os.close(file)


def _open(path: Path, create: bool = True) -> int:
    try:
        return os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o666)
    except PermissionError:
        # Another user's lock file in a shared folder: locking needs no right to write.
        return os.open(path, os.O_RDONLY)


def _try_lock(file: int, path: Path, shared: bool = False) -> bool:
    try:
        if fcntl:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        else:
            # Windows has no shared lock here; it is held for a moment only.
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
    except OSError as error:
        if error.errno in TAKEN:
            return False
        raise OSError(error.errno, f"can't be locked: {error.strerror}", str(path)) from None
    return True
