"""Whether a lock is held. filelock takes and releases them; they end with their process, also by kill -9."""

from __future__ import annotations

import os
import random
import sys
import time
from errno import EACCES, EAGAIN, ENOSYS
from pathlib import Path

from filelock import FileLock, Timeout

LOOKS = 10

if sys.platform == "win32":
    import ctypes
    import msvcrt
    from ctypes import wintypes

    FAIL_IMMEDIATELY, LOCK_VIOLATION = 1, 33
    _kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
    _kernel32.LockFileEx.argtypes = [wintypes.HANDLE, *[wintypes.DWORD] * 4, ctypes.c_void_p]

    def _share(descriptor: int) -> bool:
        """Takes the first byte, which filelock locks, together with others who look; False when it is locked."""
        overlapped = ctypes.create_string_buffer(32)  # zeros: from the first byte on
        if _kernel32.LockFileEx(msvcrt.get_osfhandle(descriptor), FAIL_IMMEDIATELY, 0, 1, 0, overlapped):
            return True
        if ctypes.get_last_error() == LOCK_VIOLATION:
            return False
        raise ctypes.WinError(ctypes.get_last_error())

else:
    import fcntl

    def _share(descriptor: int) -> bool:
        """Takes the lock together with others who look; False when it is held."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (EACCES, EAGAIN):
                return False
            raise
        return True


def is_taken(path: Path) -> bool:
    """True while some process holds the lock. Raises OSError when the file can't be locked at all.

    Many may look at once, also on a disk that is read-only. Whoever wants the lock itself needs a little patience: a
    look shares it for a moment.
    """
    # Anybody may have put a link or a pipe there.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        return False
    try:
        return not _share(descriptor)
    except OSError as error:
        if error.errno != ENOSYS:
            raise
    finally:
        os.close(descriptor)
    return _is_taken_softly(path)


def _is_taken_softly(path: Path) -> bool:
    """Where the file system has no locks, filelock makes do with the file itself, and only taking it tells.

    Two who look at once take each other for the holder: each looks several times.
    """
    for _ in range(LOOKS):
        if not path.exists():
            return False
        try:
            with FileLock(path, timeout=0):
                return False
        except Timeout:
            time.sleep(random.uniform(0.001, 0.01))
    return True
