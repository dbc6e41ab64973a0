"""Checkpoints: saved whole or not at all, and resumed exactly.

What accelerate keeps (the optimizer's state and all random states) and the adapter, not the frozen base model.
Windows, prompts and noises need no state: they are pure functions of seed and iteration.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from accelerate import Accelerator
from safetensors.torch import load_file, save_file

from .policy import Policy

ADAPTER = "adapter.safetensors"
PROGRESS = "progress.json"


class Checkpoints:
    """The checkpoints of one run, in folders named by the number of finished iterations."""

    def __init__(self, folder: Path, accelerator: Accelerator, policy: Policy, keep: int = 2):
        self.folder = folder
        self.keep = keep
        self._accelerator = accelerator
        self._policy = policy
        accelerator.register_save_state_pre_hook(self._save_adapter)
        accelerator.register_load_state_pre_hook(self._load_adapter)

    def newest(self) -> Path | None:
        """The newest complete checkpoint, or None."""
        if not self.folder.exists():
            return None
        return max((path for path in self.folder.iterdir() if path.name.isdigit()), default=None)

    def save(self, iteration: int, progress: dict) -> Path:
        """Saves beside the final place and renames: a kill in the middle leaves the older checkpoint as it was."""
        final = self.folder / f"{iteration:06d}"
        temporary = self.folder / f".{final.name}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        self._accelerator.save_state(str(temporary))
        (temporary / PROGRESS).write_text(json.dumps({"iteration": iteration, **progress}), encoding="utf-8")
        _flush_to_disk(temporary)
        if final.exists():
            shutil.rmtree(final)
        os.replace(temporary, final)
        self._remove_old()
        return final

    def load(self, path: Path) -> dict:
        """Restores adapter, optimizer and random states; returns what was given to save as progress."""
        self._accelerator.load_state(str(path))
        return json.loads((path / PROGRESS).read_text(encoding="utf-8"))

    def _save_adapter(self, models: list, weights: list, folder: str) -> None:
        state = {name: tensor.detach().contiguous() for name, tensor in self._policy.adapter_state().items()}
        save_file(state, os.path.join(folder, ADAPTER))
        weights.clear()  # tells accelerate that the model is taken care of

    def _load_adapter(self, models: list, folder: str) -> None:
        self._policy.load_adapter_state(load_file(os.path.join(folder, ADAPTER)))
        models.clear()

    def _remove_old(self) -> None:
        complete = sorted(path for path in self.folder.iterdir() if path.name.isdigit())
        for path in complete[: -self.keep]:
            shutil.rmtree(path)


def _flush_to_disk(folder: Path) -> None:
    """A rename may reach the disk before the data it names: flush the data first."""
    for path in folder.iterdir():
        with open(path, "rb+") as file:
            os.fsync(file.fileno())
