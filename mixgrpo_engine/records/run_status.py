"""What an event changes in status.json."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import sparkline
from .events import Best, Evaluation, Event, Iteration, Progress, Stage, parse, typed


def fields_of(event: Event, status: Mapping[str, Any]) -> dict:
    """The fields of status.json that the event changes, none for most; status: what it held before."""
    return _FIELDS.get(event.type, lambda *_: {})(event, status)


def rebuilt(log: Path) -> dict:
    """The status that the events of a log have made, for one that is damaged. Raises OSError when there is no log."""
    status: dict[str, Any] = {"state": "queued"}
    with open(log, "rb") as file:
        for line in file:
            told = parse(line)
            if told is None or told["type"] == Progress.type:
                continue
            with suppress(TypeError, ValueError, KeyError, AttributeError, ArithmeticError):  # a damaged event
                event = typed(told)
                status |= fields_of(event, status) if event else {}
                status["updated"] = float(told["time"])
    return status


def _stage(event: Stage, _: Mapping) -> dict:
    state = "waiting" if event.name == "waiting" else "running"
    return {"state": state, "stage": event.name, "message": event.message}


def _iteration(event: Iteration, status: Mapping) -> dict:
    known = [value for value in event.reward.values() if value is not None and math.isfinite(value)]
    mean = float(f"{sum(known) / len(known):.5g}") if known else None
    return {
        "state": "running",
        "stage": "train",
        "message": "",
        "iteration": event.iteration,
        "iterations": event.iterations,
        "reward": event.reward,
        "window": list(event.window),
        "eta_seconds": event.eta_seconds,
        "memory": event.memory,
        # Logs of older versions, from which a status may be made again, don't count the images.
        "images_per_second": event.images / event.seconds["total"] if event.images else None,
        "sparkline": sparkline.extended(status.get("sparkline"), event.iteration, mean),
    }


def _progress(event: Progress, _: Mapping) -> dict:
    return {"phase": event.phase, "phase_done": event.done, "phase_total": event.total}


def _evaluation(event: Evaluation, status: Mapping) -> dict:
    before = status.get("held_out") or {}
    # A run that older versions began tells its first score by the change.
    first = before["first"] if "first" in before else _difference(event.score, event.change or 0.0)
    return {
        "held_out_reward": event.reward,
        "held_out_strict": event.strict,
        "evaluated_at": event.iteration,
        "held_out": {"first": first, "last": event.score, "change": event.change, "error": event.change_error},
    }


def _difference(value: float | None, less: float) -> float | None:
    return None if value is None else value - less


def _best(event: Best, _: Mapping) -> dict:
    # Its LoRA gets a name once it is published, when the run ends or somebody asks for it.
    return {"best": {"iteration": event.iteration, "score": event.score, "lora": None}}


# An event's type -> a function of that event and the status before it.
_FIELDS: dict[str, Callable[[Any, Mapping[str, Any]], dict]] = {
    "stage": _stage,
    "iteration": _iteration,
    "progress": _progress,
    "evaluation": _evaluation,
    "best": _best,
    "sample": lambda event, _: {"sample": event.path},
    "checkpoint": lambda event, _: {"checkpoint": event.iteration},
    "done": lambda event, _: {
        "state": "finished",
        "stage": "",
        "message": event.message,
        "iteration": event.iteration,
        "eta_seconds": 0.0,
        "train_seconds": event.train_seconds,
    },
    "cancelled": lambda event, _: {"state": "cancelled", "stage": "", "message": event.message},
    "failed": lambda event, _: {"state": "failed", "stage": "", "message": event.message, "node_id": event.node_id},
}
