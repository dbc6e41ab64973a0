"""What a run's event log holds, as curves and lists: read once, then only what is new; never all of it in memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from ...mixgrpo_engine.records.run_folder import RunFolder
from . import event_lines, kept_history
from .columns import Columns

KEPT_RUNS = 8
KEPT_ROWS = 300_000
UNKEPT_BYTES = 2**19  # of the log that may be parsed again after a restart: some 20 ms
MOST = 1000  # notices, stages, and iterations with sample images
PLAIN = (
    "reward_std", "loss", "grad_norm", "ratio_deviation", "clip_fraction", "kl", "learning_rate", "forwards", "updates",
    "images", "time",
)  # fmt: skip
"""Fields of the event `iteration` that are columns under their own names."""


class History:
    """One run's log, as far as it has been read."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.lock = threading.Lock()  # taken by whoever reads on, or out of it
        self.forget()

    def forget(self) -> None:
        self.offset, self.kept, self.beginning = 0, 0, b""  # kept: the offset that is on the disk
        self.iterations, self.evaluations = Columns(), Columns()
        self.best: dict | None = None
        self.notices: list[dict] = []
        self.stages: list[dict] = []
        self.schedule: dict | None = None
        self.failure: dict | None = None  # the last word of a run that hasn't gone on since
        self.damaged = 0  # lines
        self.samples: dict[int, bytes] = {}
        """Iteration -> the line of its sample images: parsed when somebody wants to see them."""

    def read_on(self) -> None:
        """Takes in what was written since. The caller holds the lock."""
        beginning = event_lines.beginning(self.folder.events)
        if not self.beginning:
            kept_history.load(self)
            self.kept = self.offset
        if event_lines.size(self.folder.events) < self.offset or not beginning.startswith(self.beginning):
            self.forget()  # another log under the old name
        self.beginning = beginning
        for line, end in event_lines.lines(self.folder.events, self.offset):
            self.offset = end
            if line.startswith(event_lines.PROGRESS):
                continue
            if event := event_lines.parse(line):
                self._take(event, line)
            elif line.strip():
                self.damaged += 1
        if self.offset - self.kept > UNKEPT_BYTES:
            kept_history.keep(self)
            self.kept = self.offset

    def told(self, points: int, after: int) -> dict[str, Any]:
        """What GET .../history answers, but for the run's state. The caller holds the lock."""
        return {
            "iterations": self.iterations.told(points, after),
            "evaluations": self.evaluations.told(),
            "best": self.best,
            "notices": [*self.notices, *self._damage()],
            "damaged_lines": self.damaged,
            "stages": self.stages,
            "failure": self.failure,
            "offset": self.offset,
        }

    def _damage(self) -> list[dict]:
        """A notice about lines that couldn't be read, e.g. one that a killed worker left half done."""
        if not self.damaged:
            return []
        lines = "1 line is" if self.damaged == 1 else f"{self.damaged} lines are"
        message = f"{lines} damaged in {self.folder.events} and left out."
        return [{"iteration": 0, "time": self.folder.events.stat().st_mtime, "message": message}]

    def _take(self, event: dict, line: bytes) -> None:
        kind, iteration = event["type"], event.get("iteration")
        if kind == "failed":
            self.failure = {name: event.get(name) for name in ("message", "traceback")}
        elif kind == "stage":
            self.failure = None
            _keep(self.stages, {name: event.get(name) for name in ("time", "name", "message")})
        elif kind == "schedule":
            self.schedule = event
        # The rest speaks of an iteration.
        elif type(iteration) is not int or not 0 <= iteration < 2**53:
            return
        elif kind == "iteration":
            self.iterations.put(iteration, _iteration(event))
        elif kind == "evaluation":
            self.evaluations.put(iteration, _evaluation(event))
        elif kind == "best":
            self.best = {name: event.get(name) for name in ("iteration", "score", "lora")}
        elif kind == "notice":
            _keep(self.notices, {name: event.get(name) for name in ("iteration", "time", "message")})
        elif kind == "sample":
            self.samples.pop(iteration, None)  # the later one counts
            self.samples[iteration] = line
            if len(self.samples) > MOST:
                # The first one shows how it was before the training.
                del self.samples[list(self.samples)[1]]


class Histories:
    """Those that were asked for last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, History] = OrderedDict()
        self._lock = threading.Lock()

    def ask(self, folder: RunFolder, question: Callable[[History], Any]) -> Any:
        """The answer to a question about a run's history of now. Takes long for a long log: for threads only."""
        with self._lock:
            history = self._kept.setdefault(str(folder.path), History(folder))
            self._kept.move_to_end(str(folder.path))
        with history.lock:
            history.read_on()
            answer = question(history)
        with self._lock:
            while len(self._kept) > 1 and (len(self._kept) > KEPT_RUNS or self._rows() > KEPT_ROWS):
                self._kept.popitem(last=False)
        return answer

    def _rows(self) -> int:
        return sum(len(history.iterations) for history in self._kept.values())


HISTORIES = Histories()


def _keep(kept: list[dict], new: dict) -> None:
    kept.append(new)
    if len(kept) > MOST:
        del kept[0]


def _iteration(event: dict) -> dict[str, Any]:
    window, memory = event.get("window"), event.get("memory")
    row = {name: event.get(name) for name in PLAIN}
    if isinstance(window, list) and len(window) == 2:
        row |= {"window_start": window[0], "window_stop": window[1]}
    if isinstance(memory, dict):
        row |= {"memory_now": memory.get("now"), "memory_peak": memory.get("peak")}
    return row | _each(event, "reward") | _each(event, "seconds") | _each(event, "deviations")


def _evaluation(event: dict) -> dict[str, Any]:
    row = {name: event.get(name) for name in ("score", "change", "change_error")}
    return row | _each(event, "reward") | _each(event, "strict")


def _each(event: dict, group: str) -> dict[str, Any]:
    """A field that holds numbers by name, as columns: {"reward.hps": 0.3}."""
    values = event.get(group)
    if not isinstance(values, dict):
        return {}
    return {f"{group}.{name}": value for name, value in values.items()}
