"""The worker's word to the world: every event into events.jsonl, what matters of it into status.json."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ...mixgrpo_engine.events import Event
from ...mixgrpo_engine.run_folder import RunFolder
from ..runs import process

# Not the root logger: its shortcuts would set up logging before ComfyUI does, and every line would come twice.
LOG = logging.getLogger("mixgrpo")


class Reporter:
    def __init__(self, folder: RunFolder):
        self.folder = folder
        self._before_done: list[Callable[[], dict]] = []

    @property
    def checkpoint(self) -> int:
        """How many iterations the last checkpoint holds: those after it are lost when a worker is killed."""
        return int(self.folder.status().get("checkpoint") or 0)

    def start(self) -> None:
        """This process is the run's worker now."""
        self.folder.set_status(state="running", message="", **process.identity())

    def before_done(self, action: Callable[[], dict]) -> None:
        """What must have worked before the run may call itself finished; returns fields for status.json."""
        self._before_done.append(action)

    def emit(self, event: Event) -> None:
        fields = _FIELDS.get(event.type, lambda _: {})(event)
        if event.type == "done":
            for action in self._before_done:
                fields.update(action())
        self.folder.emit(event)
        if fields:
            self.folder.set_status(**fields)
        _log(event)


def _stage(event) -> dict:
    state = "waiting" if event.name == "waiting" else "running"
    return {"state": state, "stage": event.name, "message": event.message}


def _iteration(event) -> dict:
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


def _progress(event) -> dict:
    return {"phase": event.phase, "phase_done": event.done, "phase_total": event.total}


def _evaluation(event) -> dict:
    return {"held_out_reward": event.reward, "held_out_strict": event.strict, "evaluated_at": event.iteration}


def _best(event) -> dict:
    # Its LoRA gets a name once it is published, at the run's end.
    return {"best": {"iteration": event.iteration, "score": event.score, "lora": None}}


_FIELDS = {
    "stage": _stage,
    "iteration": _iteration,
    "progress": _progress,
    "evaluation": _evaluation,
    "best": _best,
    "sample": lambda event: {"sample": event.path},
    "checkpoint": lambda event: {"checkpoint": event.iteration},
    "done": lambda event: {"state": "finished", "stage": "", "iteration": event.iteration, "eta_seconds": 0.0},
    "cancelled": lambda event: {"state": "cancelled", "stage": "", "message": event.message},
    "failed": lambda event: {"state": "failed", "stage": "", "message": event.message, "node_id": event.node_id},
}


def _log(event: Event) -> None:
    text = {key: value for key, value in event.as_dict().items() if key not in ("type", "time", "traceback")}
    LOG.log(logging.ERROR if event.type == "failed" else logging.INFO, "[%s] %s", event.type, text)
