"""Runs that this server has started, changed or removed: the follower looks at them at once, at others now and then."""

from __future__ import annotations

import queue

_changed: queue.SimpleQueue[str] = queue.SimpleQueue()


def tell(run_id: str) -> None:
    _changed.put(run_id)


def take() -> set[str]:
    """Those that were told since the last call."""
    return {_changed.get() for _ in range(_changed.qsize())}
