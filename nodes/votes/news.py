"""Which sets of votes have changed: told to the browsers as `mixgrpo.votes`, whoever has changed them."""

from __future__ import annotations

import queue
from typing import Any

from . import sets

EVENT = "mixgrpo.votes"

_told: queue.SimpleQueue[str] = queue.SimpleQueue()
_sizes: dict[str, int] = {}


def tell(name: str) -> None:
    """This server has changed it."""
    _told.put(name)


def take() -> list[dict[str, Any]]:
    """[{"name"}] of the sets that have changed since the last call, in this process or another."""
    sizes = {}
    for votes in sets.every():
        try:
            sizes[votes.folder.name] = votes.log.stat().st_size
        except OSError:
            continue
    changed = {_told.get() for _ in range(_told.qsize())}
    changed |= {name for name, size in sizes.items() if _sizes.get(name) != size} | (_sizes.keys() - sizes.keys())
    _sizes.clear()
    _sizes.update(sizes)
    return [{"name": name} for name in sorted(changed)]
