"""Checkpoints: saved whole or not at all, and resumed exactly.

What accelerate keeps (the optimizer's state and all random states), the adapter and its average; not the frozen base
model. Weights that are split over processes (sharding.py) are put together by accelerate, so that another number of
processes may go on. Nothing that is read back is run as code: tensors are safetensors, the rest is loaded as weights
only.
Windows, prompts and noises need no state: they are pure functions of seed and iteration.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError

import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..distributed.sharding import own_part
from ..policy import Policy
from ..records.files import replace
from .adapter_average import AdapterAverage

ADAPTER = "adapter.safetensors"
AVERAGE = "average.safetensors"
PROGRESS = "progress.json"
LORA = "lora.safetensors"  # for users of the model, while the adapter is for going on


class OtherLaunch(Exception):
    """A run can't go on from its checkpoints as it was launched now."""


class Checkpoints:
    """The checkpoints of one run, in folders named by the number of finished iterations."""

    def __init__(
        self,
        folder: Path,
        accelerator: Accelerator,
        policy: Policy,
        average: AdapterAverage | None = None,
        keep: int = 2,
        split: bool = False,
        export: Callable[[Path], None] | None = None,
    ) -> None:
        """keep: how many stay; split: whether the weights are split over processes.

        export(path) writes the LoRA of now, which a checkpoint then holds, too; the main process calls it.
        """
        self.folder = folder
        self.split, self._export = split, export
        self.keep = keep
        self._accelerator = accelerator
        self._policy = policy
        self._average = average
        accelerator.register_save_state_pre_hook(self._save_adapter)
        accelerator.register_load_state_pre_hook(self._load_adapter)

    def complete(self) -> list[Path]:
        """The complete checkpoints, oldest first."""
        if not self.folder.exists():
            return []
        return sorted((path for path in self.folder.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))

    def save(self, iteration: int, progress: dict) -> Path:
        """Saves beside the final place and renames: a kill in the middle leaves the older checkpoint as it was.

        With several processes all of them call it: each saves its random states, the main one all else.
        """
        final = self.folder / f"{iteration:06d}"
        temporary = self.folder / f".{final.name}.tmp"
        if self._accelerator.is_main_process:
            shutil.rmtree(temporary, ignore_errors=True)
        self._accelerator.wait_for_everyone()
        self._accelerator.save_state(str(temporary))
        self._accelerator.wait_for_everyone()
        if self._accelerator.is_main_process:
            about = {"iteration": iteration, "split": self.split, **progress}
            (temporary / PROGRESS).write_text(json.dumps(about), encoding="utf-8")
            if self._export:
                self._export(temporary / LORA)
            _flush_to_disk(temporary)
            if final.exists():
                shutil.rmtree(final)
            replace(temporary, final)
            self._remove_old()
        self._accelerator.wait_for_everyone()
        return final

    def load_newest(self, tell: Callable[[str], None]) -> dict | None:
        """Restores the newest checkpoint that can be read: what was given as progress, or None without checkpoints.

        An older one is taken when the newest is damaged; tell(message) says so. Raises RuntimeError when none can be
        read: starting anew in silence would throw the training away. With split weights it is raised for the newest
        already: the main process alone reads them, and the others wait for what it has read.
        """
        failure = None
        for path in reversed(self.complete()):
            try:
                return self._load(path)
            except (OSError, ValueError, RuntimeError, KeyError, EOFError, SafetensorError, UnpicklingError) as error:
                if self.split:
                    raise RuntimeError(
                        f"The checkpoint {path} can't be read ({_reason(error)}). Move that folder away and start "
                        "again: the run then goes on from the one before."
                    ) from error
                failure = error
                tell(f"The checkpoint {path.name} can't be read ({_reason(error)}); trying an older one.")
        if failure is None:
            return None
        raise RuntimeError(
            f"No checkpoint in {self.folder} can be read ({_reason(failure)}). Move that folder away to start anew."
        ) from failure

    def _load(self, path: Path) -> dict:
        progress = json.loads((path / PROGRESS).read_text(encoding="utf-8"))
        if progress.get("split", False) != self.split:
            before, now = ("without", "with") if self.split else ("with", "without")
            raise OtherLaunch(
                f"The checkpoints in {self.folder} were saved {before} FSDP and this run was launched {now} it: launch "
                "it as before, with any number of processes."
            )
        self._accelerator.load_state(str(path))
        return progress

    def _save_adapter(self, models: list, weights: list, folder: str) -> None:
        state = self._policy.adapter_state()
        broken = [name for name, tensor in state.items() if not own_part(tensor).isfinite().all()]
        if self._anywhere(bool(broken)):
            where = f"in {broken[0]}" if broken else "in another process's share"
            raise RuntimeError(f"The adapter holds values that aren't finite ({where}), so it isn't saved.")
        is_main = self._accelerator.is_main_process
        if is_main and not self.split:  # else accelerate has saved them already
            tensors = {name: tensor.detach().contiguous() for name, tensor in state.items()}
            save_file(tensors, os.path.join(folder, ADAPTER))
        if self._average and (is_main or self.split):
            average = self._average.state()
            if is_main:
                save_file(average, os.path.join(folder, AVERAGE))
        weights.clear()  # tells accelerate that the model is taken care of

    def _load_adapter(self, models: list, folder: str) -> None:
        if not self.split:
            self._policy.load_adapter_state(load_file(os.path.join(folder, ADAPTER)))
        if self._average:
            self._average.load_state(load_file(os.path.join(folder, AVERAGE)))
        models.clear()

    def _anywhere(self, flag: bool) -> bool:
        """Whether it is true in any process: with split weights all must know, or some would wait for ever."""
        if not self.split:
            return flag
        return bool(self._accelerator.reduce(torch.tensor(float(flag), device=self._accelerator.device), "sum"))

    def _remove_old(self) -> None:
        for path in [*self.complete()[: -self.keep], *self.folder.glob(".*.tmp")]:
            shutil.rmtree(path)


def _reason(error: Exception) -> str:
    """In a few words. torch's own of a damaged file is a page, and advises to load it unsafely."""
    if isinstance(error, UnpicklingError):
        return "a file in it is damaged"
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _flush_to_disk(folder: Path) -> None:
    """A rename may reach the disk before the data it names: flush the data first."""
    for path in folder.iterdir():
        with open(path, "rb+") as file:
            os.fsync(file.fileno())
