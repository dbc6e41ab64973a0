"""The run folder: the single truth of a run, read by the server, the browser and the API alike."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from .events import Event, EventLog, finite

STATES = ("queued", "waiting", "running", "finished", "failed", "cancelled")


class RunFolder:
    """Paths of one run and atomic access to its files.

    job.json (graph, settings, versions), status.json, events.jsonl, worker.log, checkpoints/, samples/,
    `<run>.safetensors`.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self.name = self.path.name
        self.job = self.path / "job.json"
        self.status_file = self.path / "status.json"
        self.events = self.path / "events.jsonl"
        self.log = self.path / "worker.log"
        self.lock = self.path / "worker.lock"
        self.cancel_file = self.path / "cancel"
        self.checkpoints = self.path / "checkpoints"
        self.samples = self.path / "samples"
        self.lora = self.path / f"{self.name}.safetensors"
        self._event_log = EventLog(self.events)

    def create(self) -> None:
        for folder in (self.path, self.checkpoints, self.samples):
            folder.mkdir(parents=True, exist_ok=True)

    def emit(self, event: Event) -> dict:
        return self._event_log.append(event)

    def status(self) -> dict:
        """The last status written, or {"state": "queued"} before the first."""
        try:
            return json.loads(self.status_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {"state": "queued"}

    def set_status(self, **fields) -> dict:
        """Merges fields into status.json, atomically. Only the worker calls it, so there is one writer."""
        status = {**self.status(), **finite(fields), "updated": time.time()}
        if status["state"] not in STATES:
            raise ValueError(f"'{status['state']}' is not a run state: it must be one of {', '.join(STATES)}.")
        write_json(self.status_file, status)
        return status


def write_json(path: Path, value) -> None:
    """Writes JSON beside the file and renames it into place, so that a reader never sees half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(value, indent=1, allow_nan=False), encoding="utf-8")
    os.replace(temporary, path)
