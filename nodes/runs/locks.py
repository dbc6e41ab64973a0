"""Whether a lock is held. filelock takes and releases them; they end with their process, also by kill -9."""

from __future__ import annotations

import random
import time
from pathlib import Path

from filelock import FileLock, Timeout

LOOKS = 10


def is_taken(path: Path) -> bool:
    """True while some process holds the lock. Raises OSError when the file can't be locked at all.

    A lock can only be tried by taking it, so that two who look at once take each other for the holder: each looks
    several times. Whoever wants the lock itself needs a little patience for the same reason.
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
