"""A sweep: one Train node whose inputs are lists (of seeds, names, learning rates) is a series of runs that belong
together. What ties them stands in their queued.json, and changes nothing of what is trained.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from .stored import is_number

MOST = 1000
"""Runs of a sweep."""

MOST_VALUES = 8
"""Settings that are told of a run."""


def members(node: str, inputs: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """The inputs of each execution, out of a node's lists, paired as ComfyUI does: a shorter list's last value stays.

    Raises ValueError with one sentence for an empty list, and for more than MOST executions.
    """
    for name, values in inputs.items():
        if not values:
            raise ValueError(f"{name} of {node} is an empty list: connect something that gives at least one value.")
    count = max(map(len, inputs.values()), default=1)
    if count > MOST:
        longest = max(inputs, key=lambda name: len(inputs[name]))
        raise ValueError(f"{longest} of {node} is a list of {count} values: {MOST} runs are the most at a time.")
    return [{name: values[min(place, len(values) - 1)] for name, values in inputs.items()} for place in range(count)]


def of_jobs(jobs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any] | None]:
    """What each run's queued.json says of the sweep that they are; None where there is one run only.

    {"id", "position": from 1 on, "of": how many, "values": the settings that differ from the others'}
    """
    if len(jobs) < 2:
        return [None]
    name, settings = uuid.uuid4().hex, [_settings(job) for job in jobs]
    differ = [field for field in settings[0] if any(each[field] != settings[0][field] for each in settings)]
    return [
        {
            "id": name,
            "position": place,
            "of": len(jobs),
            "values": {field: each[field] for field in differ[:MOST_VALUES]},
        }
        for place, each in enumerate(settings, 1)
    ]


def checked(told: object) -> dict[str, Any] | None:
    """What a queued.json says of a sweep, None for what can't be that: any client may write there."""
    if not isinstance(told, dict) or not isinstance(told.get("id"), str) or not 0 < len(told["id"]) <= 32:
        return None
    position, of, values = told.get("position"), told.get("of"), told.get("values")
    if type(position) is not int or type(of) is not int or not 1 <= position <= of <= MOST:
        return None
    known = list(values.items())[:MOST_VALUES] if isinstance(values, dict) else []
    plain = {name: value for name, value in known if isinstance(value, (str, bool)) or is_number(value)}
    return {"id": told["id"], "position": position, "of": of, "values": plain}


def _settings(job: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": job["name"]} | {field: value for group in job["config"].values() for field, value in group.items()}
