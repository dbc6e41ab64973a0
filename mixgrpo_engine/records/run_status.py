"""What an event changes in status.json."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .events import Best, Evaluation, Event, Iteration, Progress, Stage


def fields_of(event: Event) -> dict:
    """The fields of status.json that the event changes; none for most."""
    return _FIELDS.get(event.type, lambda _: {})(event)


def _stage(event: Stage) -> dict:
    state = "waiting" if event.name == "waiting" else "running"
    return {"state": state, "stage": event.name, "message": event.message}


def _iteration(event: Iteration) -> dict:
    return {
        "state": "running",
        "stage": "train",
        "message": "",
        "iteration": event.iteration,
        "iterations": event.iterations,
        "reward": event.reward,
        "window": list(event.window),
        "eta_seconds": event.eta_seconds,
    }


def _progress(event: Progress) -> dict:
    return {"phase": event.phase, "phase_done": event.done, "phase_total": event.total}


def _evaluation(event: Evaluation) -> dict:
    return {"held_out_reward": event.reward, "held_out_strict": event.strict, "evaluated_at": event.iteration}


def _best(event: Best) -> dict:
    # Its LoRA gets a name once it is published, at the run's end.
    return {"best": {"iteration": event.iteration, "score": event.score, "lora": None}}


# An event's type -> a function of that event.
_FIELDS: dict[str, Callable[[Any], dict]] = {
    "stage": _stage,
    "iteration": _iteration,
    "progress": _progress,
    "evaluation": _evaluation,
    "best": _best,
    "sample": lambda event: {"sample": event.path},
    "checkpoint": lambda event: {"checkpoint": event.iteration},
    "done": lambda event: {
        "state": "finished",
        "stage": "",
        "message": event.message,
        "iteration": event.iteration,
        "eta_seconds": 0.0,
    },
    "cancelled": lambda event: {"state": "cancelled", "stage": "", "message": event.message},
    "failed": lambda event: {"state": "failed", "stage": "", "message": event.message, "node_id": event.node_id},
}
