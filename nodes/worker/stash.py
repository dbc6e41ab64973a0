"""Where the Train node leaves what its graph gave it, when it is executed inside the worker."""

from __future__ import annotations

from collections.abc import Sequence

_values: dict = {}


def put(values: dict[str, Sequence]) -> None:
    """Called by the Train node. Raises ValueError for a list of several values, as a sweep of models would be."""
    for name, given in values.items():
        if len(given) != 1:
            raise ValueError(f"{name} of MixGRPO Train is a list of {len(given)}: connect a node that gives one.")
        _values[name] = given[0]


def take() -> dict:
    """What was put, and forgets it, so that nothing keeps a model alive."""
    values = dict(_values)
    _values.clear()
    return values
