"""What a run tells the world: typed events, one JSON line each."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

from . import disk, log_limits
from .files import patiently
from .readable import readable

DECODER = json.JSONDecoder(parse_constant=lambda _: None)
"""NaN and infinities, which browsers can't parse, are None."""


@dataclass
class Event:
    """Base of all events. `type` names the event in JSON; `time` is seconds since the epoch."""

    type: ClassVar[str] = "event"

    def __post_init__(self) -> None:
        """What a library says passes here on its way to log, status and browser: none of them becomes unreadable."""
        for name in ("message", "traceback", "node_id"):
            if hasattr(self, name):
                setattr(self, name, readable(getattr(self, name), keep_end=name == "traceback"))

    def as_dict(self) -> dict:
        return {"type": self.type, "time": time.time(), **finite(asdict(self))}


@dataclass
class Stage(Event):
    """The run entered a stage: "boot", "waiting", "encode", "load", "train", "resume", "compile"."""

    type: ClassVar[str] = "stage"
    name: str
    message: str = ""


@dataclass
class Progress(Event):
    """A sign of life, a few seconds apart. phase: encode, rollout, score, update or evaluate."""

    type: ClassVar[str] = "progress"
    iteration: int  # how many are finished
    iterations: int
    phase: str
    done: int
    total: int


@dataclass
class Schedule(Event):
    """What the training samples at, once a start, before its first iteration."""

    type: ClassVar[str] = "schedule"
    sigmas: list[float]  # noise levels, one more than steps
    flash_ratio: float
    shift: float  # the one that is really used


@dataclass
class Iteration(Event):
    """One finished iteration. reward: mean a scorer; seconds: rollout, score, update, total."""

    type: ClassVar[str] = "iteration"
    iteration: int  # 1-based: how many are finished
    iterations: int
    window: tuple[int, int]  # first step index and one past the last
    reward: dict[str, float]
    reward_std: float  # mean over groups of the standard deviation inside a group
    loss: float
    grad_norm: float  # before clipping, mean over the updates
    ratio_deviation: float | None  # mean |ratio - 1| over the last update; None where no step is random
    clip_fraction: float | None  # share of ratios outside 1 +- clip_range; None likewise
    forwards: int  # image-forwards so far, rollout and update together
    seconds: dict[str, float]
    eta_seconds: float  # estimated time left
    updates: int  # steps of the optimizer; fewer than wanted where no image had an advantage
    learning_rate: float
    kl: float | None  # to the base model, as kl_space measures it, before its weight; None where kl_weight is 0
    images: int  # sampled and scored in this iteration
    memory: dict[str, int]  # bytes now and at most so far: memory/in_use.py
    deviations: dict[str, float] = field(default_factory=dict)  # mean |ratio - 1| of each pass ("1" ...), if several


@dataclass
class Notice(Event):
    """Something that people should know and the run survives."""

    type: ClassVar[str] = "notice"
    iteration: int
    message: str


@dataclass
class Evaluation(Event):
    """Held-out prompts scored with fixed noises; strict: share of images that are strictly right, if known."""

    type: ClassVar[str] = "evaluation"
    iteration: int
    reward: dict[str, float]
    strict: dict[str, float] = field(default_factory=dict)
    score: float | None = None  # what tells the best LoRA: the deciding scorers' weighted mean
    change: float | None = None  # mean of the images' differences to the first evaluation; None in that one
    change_error: float | None = None  # half of its 95% interval over the prompts; None: no pairs
    scores: list[float | None] = field(default_factory=list)  # the same as score, one an image
    steps: int = 0  # second-order steps that the images were sampled by; 0: the training's own steps


@dataclass
class Best(Event):
    """No held-out evaluation before was better; score: the watched one. lora: relative to the run folder."""

    type: ClassVar[str] = "best"
    iteration: int
    score: float
    lora: str


@dataclass
class Sample(Event):
    """Sample images were written; path is the grid's, relative to the run folder.

    images: the single ones: file (relative, too), prompt, seed, scores by name. seed is text, because it has more
    digits than a browser's numbers keep.
    """

    type: ClassVar[str] = "sample"
    iteration: int
    path: str
    prompts: list[str] = field(default_factory=list)
    images: list[dict] = field(default_factory=list)


@dataclass
class Lora(Event):
    """A LoRA that was asked for in the middle of the run; lora: relative to the run folder."""

    type: ClassVar[str] = "lora"
    iteration: int
    lora: str


@dataclass
class CheckpointSaved(Event):
    type: ClassVar[str] = "checkpoint"
    iteration: int
    path: str


@dataclass
class Done(Event):
    """The run ended as asked. lora: the exported file, relative to the run folder. message: what else to know."""

    type: ClassVar[str] = "done"
    iteration: int
    lora: str
    train_seconds: float
    message: str = ""


@dataclass
class Cancelled(Event):
    type: ClassVar[str] = "cancelled"
    iteration: int
    message: str = ""


@dataclass
class Failed(Event):
    """The run ended by an error. node_id: the graph's node that failed, where one did."""

    type: ClassVar[str] = "failed"
    message: str
    traceback: str = ""
    node_id: str = ""


def scores(rewards: Mapping[str, float | None]) -> str:
    """For people: "shapes 0.812, ocr without score"; None is what finite() makes of NaN."""

    def told(value: float | None) -> str:
        return "without score" if value is None or math.isnan(value) else f"{value:.4g}"

    return ", ".join(f"{name} {told(value)}" for name, value in rewards.items())


def finite(value: Any) -> Any:
    """The same structure with NaN and infinities as None: browsers can't parse them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


class EventLog:
    """Appends events to a file, one JSON line each, flushed at once; what is too long is thinned out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._checked = False
        self._most = log_limits.EVENTS_BYTES

    def append(self, event: Event) -> dict:
        line = event.as_dict()
        try:
            with patiently(lambda: open(self.path, "a", encoding="utf-8")) as file:
                file.write(self._line_end() + json.dumps(line, allow_nan=False) + "\n")
                size = file.tell()
        except OSError as error:
            self._checked = False  # half a line may be there now
            raise disk.trouble(error, self.path) or error from error
        if size > self._most:
            self._thin_out(size)
        return line

    def _thin_out(self, size: int) -> None:
        words = "The log had grown long: about every other event before is left out."
        with suppress(OSError):  # a disk without room for the shorter one: it is tried again later
            size = log_limits.thin_out(self.path, Notice(0, words).as_dict())
        # What has to stay may be long, too: not again for every event.
        self._most = max(log_limits.EVENTS_BYTES, size + size // 4)

    def _line_end(self) -> str:
        """The end of a line that a killed writer left half done, else ""."""
        if self._checked:
            return ""
        self._checked = True
        with open(self.path, "rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - 1))
            return "\n" if file.read() not in (b"", b"\n") else ""


def read(path: Path, offset: int = 0) -> tuple[list[dict], int]:
    """Events from byte `offset` up to the last complete line, and the offset to go on from."""
    if not path.exists():
        return [], offset
    with open(path, "rb") as file:
        file.seek(offset)
        chunk = file.read()
    end = chunk.rfind(b"\n") + 1
    return [event for line in chunk[:end].splitlines() if (event := parse(line))], offset + end


def of_types(path: Path, *types: str) -> Iterator[dict]:
    """The sound events of these types, one after another: a long log is never in memory as a whole."""
    marks = [json.dumps(kind).encode() for kind in types]
    if not path.exists():
        return
    with open(path, "rb") as file:
        for line in file:
            if any(mark in line for mark in marks):
                event = parse(line)
                if event and event["type"] in types and _is_sound(event):
                    yield event


def parse(line: bytes) -> dict | None:
    """The event of a line; None for one that a killed writer left half done, or that isn't an event."""
    try:
        event = DECODER.decode(line.decode())
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) and isinstance(event.get("type"), str) else None


def typed(told: Mapping[str, Any]) -> Event | None:
    """An event of the log as it was emitted; what an older version didn't tell is None. None for an unknown type."""
    kind = next((each for each in Event.__subclasses__() if each.type == told["type"]), None)
    if kind is None:
        return None
    needed = {each.name for each in fields(kind) if each.default is MISSING and each.default_factory is MISSING}
    return kind(**{each.name: told.get(each.name) for each in fields(kind) if each.name in told or each.name in needed})


def _is_sound(event: dict) -> bool:
    """Whether it holds what its readers in the engine count on."""
    if event["type"] not in ("iteration", "evaluation", "sample"):
        return True
    iteration, reward = event.get("iteration"), event.get("reward", {} if event["type"] == "sample" else None)
    return (
        type(iteration) is int
        and 0 <= iteration < 2**53
        and isinstance(reward, dict)
        and _are_numbers(list(reward.values()))
        and _are_numbers(event.get("scores", []))
    )


def _are_numbers(values: object) -> bool:
    return isinstance(values, list) and all(value is None or type(value) in (int, float) for value in values)
