"""Events as lines for people at a terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..records.events import Evaluation, Event, Iteration, scores


def line(event: Event) -> str:
    """One line, or "" for what nobody needs to read."""
    return _LINES.get(event.type, lambda _: "")(event)


def duration(seconds: float) -> str:
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    minutes, hours = seconds // 60 % 60, seconds // 3600
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _iteration(event: Iteration) -> str:
    first, end = event.window
    return (
        f"iteration {event.iteration}/{event.iterations}: reward {scores(event.reward)}, window {first}..{end - 1}, "
        f"gradient {event.grad_norm:.3g}, {event.seconds['total']:.1f} s, {duration(event.eta_seconds)} left"
    )


def _evaluation(event: Evaluation) -> str:
    strict = f" (strictly right: {scores(event.strict)})" if event.strict else ""
    return f"held-out prompts after {event.iteration} iterations: reward {scores(event.reward)}{strict}"


# An event's type -> a function of that event.
_LINES: dict[str, Callable[[Any], str]] = {
    "stage": lambda event: event.message,
    "iteration": _iteration,
    "evaluation": _evaluation,
    "progress": lambda event: f"  {event.phase} {event.done}/{event.total}",
    "notice": lambda event: f"note: {event.message}",
    "best": lambda event: f"best so far: {event.score:.4g}, kept as {event.lora}",
    "checkpoint": lambda event: f"checkpoint saved: {event.path}",
    "lora": lambda event: f"LoRA saved: {event.lora}",
    "done": lambda event: (
        f"Finished after {event.iteration} iterations in {duration(event.train_seconds)}: {event.lora}"
        + f"\n{event.message}" * bool(event.message)
    ),
    "cancelled": lambda event: event.message,
    "failed": lambda event: f"error: {event.message}",
}
