"""The run folder: the single truth of a run, read by the server, the browser and the API alike."""

from __future__ import annotations

import os
import time
from pathlib import Path

from .events import Event, EventLog, finite
from .files import read_json, write_json

STATES = ("queued", "waiting", "running", "finished", "failed", "cancelled")


class RunFolder:
    """Paths of one run and atomic access to its files.

    job.json (graph, settings, versions), status.json, events.jsonl, worker.log, checkpoints/, samples/ (grids, single
    images by iteration, the newest training group), `<run>.safetensors` (the last LoRA), `<run>-best.safetensors` (the
    best on held-out prompts), `<run>-<iteration>.safetensors` (asked for by a file named `save`).
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        self.name = self.path.name
        self.job = self.path / "job.json"
        self.status_file = self.path / "status.json"
        self.events = self.path / "events.jsonl"
        self.log = self.path / "worker.log"
        self.lock = self.path / "worker.lock"
        self.cancel_file = self.path / "cancel"
        self.save_file = self.path / "save"
        self.checkpoints = self.path / "checkpoints"
        self.samples = self.path / "samples"
        self.lora = self.path / f"{self.name}.safetensors"
        self.best_lora = self.path / f"{self.name}-best.safetensors"
        self._event_log = EventLog(self.events)

    def create(self) -> None:
        for folder in (self.path, self.checkpoints, self.samples):
            folder.mkdir(parents=True, exist_ok=True)

    def step_lora(self, iteration: int) -> Path:
        """The LoRA that was asked for after so many iterations."""
        return self.lora.with_name(f"{self.lora.stem}-{iteration:06d}{self.lora.suffix}")

    def emit(self, event: Event) -> dict:
        return self._event_log.append(event)

    def status(self) -> dict:
        """The last status written, or {"state": "queued"} before the first. Raises ValueError for a damaged file."""
        try:
            status = read_json(self.status_file)
        except FileNotFoundError:
            return {"state": "queued"}
        if not isinstance(status.get("state"), str):
            raise ValueError(f"{self.status_file} is damaged (it names no state): restore it, or remove the folder.")
        return status

    def set_status(self, **fields: object) -> dict:
        """Merges fields into status.json, atomically.

        There is one writer at a time: the worker, and before it starts whoever launches it.
        """
        status = {**self.status(), **finite(fields), "updated": time.time()}
        if status["state"] not in STATES:
            raise ValueError(f"'{status['state']}' is not a run state: it must be one of {', '.join(STATES)}.")
        write_json(self.status_file, status)
        return status
