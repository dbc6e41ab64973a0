"""The run folder: the single truth of a run, read by the server, the browser and the API alike."""

from __future__ import annotations

import functools
import os
import time
from contextlib import suppress
from pathlib import Path

from . import run_status, stored_status
from .events import Event, EventLog, Notice, finite
from .files import remove, set_aside, write_json
from .readable import readable
from .stored_status import STATES

SERVERS = tuple(f".{name}.json." for name in ("about", "workflow", "queued", "job", "prompts", "launch", "turn"))
SERVERS_SECONDS = 60.0
"""The server may be writing these just now; none of them takes so long."""

WRITTEN_INTO = ("", "checkpoints", "samples", "samples/group", "encodings", "prompts")

_rebuilt: dict[str, tuple[tuple, dict]] = {}
"""Path -> (what the damaged status.json was then, what was made instead): a log may be long, and is read once."""


class _Place:
    """The path of a file or folder in a run folder, made when it is asked for: a server knows thousands of runs."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, folder: RunFolder, _owner: type | None = None) -> Path:
        return folder.path / self.name.format(run=folder.name)


class RunFolder:
    """Paths of one run and atomic access to its files.

    job.json (graph, settings, versions), status.json, events.jsonl, worker.log, checkpoints/, samples/ (grids, single
    images by iteration, the newest training group), `<run>.safetensors` (the last LoRA), `<run>-best.safetensors` (the
    best on held-out prompts), `<run>-<iteration>.safetensors` (asked for by a file named `save`).
    """

    job = _Place("job.json")
    status_file = _Place("status.json")
    events = _Place("events.jsonl")
    log = _Place("worker.log")
    lock = _Place("worker.lock")
    cancel_file = _Place("cancel")
    save_file = _Place("save")
    checkpoints = _Place("checkpoints")
    samples = _Place("samples")
    lora = _Place("{run}.safetensors")
    best_lora = _Place("{run}-best.safetensors")

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        self.name = self.path.name

    @functools.cached_property
    def _event_log(self) -> EventLog:
        return EventLog(self.events)

    def create(self) -> None:
        for folder in (self.path, self.checkpoints, self.samples):
            folder.mkdir(parents=True, exist_ok=True)

    def remove_unfinished(self) -> None:
        """What a killed process was writing. For who alone writes into the folder now, but for the server's files."""
        for place in WRITTEN_INTO:
            for path in (self.path / place).glob(".*tmp*"):  # safetensors' own are .tmpXXXXXX
                theirs = path.name.startswith(SERVERS)
                with suppress(FileNotFoundError):
                    if not theirs or time.time() - path.lstat().st_mtime > SERVERS_SECONDS:
                        remove(path)

    def step_lora(self, iteration: int) -> Path:
        """The LoRA that was asked for after so many iterations."""
        return self.lora.with_name(f"{self.lora.stem}-{iteration:06d}{self.lora.suffix}")

    def emit(self, event: Event) -> dict:
        return self._event_log.append(event)

    def status(self) -> dict:
        """The last status written, or {"state": "queued"} before the first.

        A damaged one is made again from the events. Raises ValueError with a sentence when they can't be read either.
        """
        return self._status()[0]

    def set_status(self, **fields: object) -> dict:
        """Merges fields into status.json, atomically.

        There is one writer at a time: the worker, and before it starts whoever launches it.
        """
        before, damage = self._status()
        status = {**before, **finite(fields), "updated": time.time()}
        if status["state"] not in STATES:
            raise ValueError(f"'{status['state']}' is not a run state: it must be one of {', '.join(STATES)}.")
        if damage:
            aside = set_aside(self.status_file)
            self.emit(Notice(int(before.get("iteration") or 0), f"{damage} It is {aside.name} now."))
        write_json(self.status_file, status)
        return status

    def _status(self) -> tuple[dict, str]:
        """(status, a sentence about the damage that it was made again for)"""
        try:
            told = stored_status.read(self.status_file)
        except FileNotFoundError:
            return {"state": "queued"}, ""
        except (ValueError, OSError) as error:
            sentence = f"{self.status_file} was damaged and is made again from {self.events.name}."
            made = self._made_again(error)
            return {**made, "message": made.get("message") or sentence}, sentence
        if told.get("message"):
            told["message"] = readable(told["message"])  # older versions wrote what libraries said
        return told, ""

    def _made_again(self, damage: Exception) -> dict:
        found = os.lstat(self.status_file)
        now = (found.st_mtime_ns, found.st_size, found.st_ino)
        known = _rebuilt.get(str(self.path))
        if known is None or known[0] != now:
            try:
                made = run_status.rebuilt(self.events)
            except FileNotFoundError:
                made = {"state": "queued"}  # its worker never said a word
            except OSError as error:
                raise ValueError(f"{damage} Nor can it be made again ({error}).") from None
            if len(_rebuilt) > 100:
                _rebuilt.clear()
            known = _rebuilt[str(self.path)] = now, made
        return dict(known[1])
