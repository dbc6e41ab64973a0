"""Where the Train node leaves what its graph gave it, when it is executed inside the worker."""

from __future__ import annotations

_values: dict = {}


def put(values: dict) -> None:
    """Called by the Train node. Raises ValueError when it is executed more than once."""
    if _values:
        raise ValueError("An input of the Train node is a list of several values: connect one that gives a single one.")
    _values.update(values)


def take() -> dict:
    """What was put, and forgets it, so that nothing keeps a model alive."""
    values = dict(_values)
    _values.clear()
    return values
