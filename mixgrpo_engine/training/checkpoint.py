"""Checkpoints: saved whole or not at all, and resumed exactly.

What accelerate keeps (the optimizer's state and all random states), the adapter and its averages; not the frozen base
model. Weights that are split over processes (sharding.py) are put together by accelerate, so that another number of
processes may go on. Nothing that is read back is run as code: tensors are safetensors, the rest is loaded as weights
only.
Windows, prompts and noises need no state: they are pure functions of seed and iteration.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file

from ..distributed.sharding import own_part
from ..memory.micro_batches import is_out_of_memory
from ..policy import Policy
from ..records import disk
from ..records.files import remove, replace, set_aside
from ..records.readable import words_of
from .adapter_average import AdapterAverage

ADAPTER = "adapter.safetensors"
AVERAGE, OLD = "average.safetensors", "old.safetensors"
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
        averages: Mapping[str, AdapterAverage] | None = None,
        keep: int = 2,
        split: bool = False,
        export: Callable[[Path], None] | None = None,
    ) -> None:
        """averages: by their files' names. keep: how many stay; split: whether the weights are split over processes.

        export(path) writes the LoRA of now, which a checkpoint then holds, too; the main process calls it.
        """
        self.folder = folder
        self.split, self._export = split, export
        self.keep = keep
        self._accelerator = accelerator
        self._policy = policy
        self._averages = averages or {}
        accelerator.register_save_state_pre_hook(self._save_adapter)
        accelerator.register_load_state_pre_hook(self._load_adapter)

    def complete(self) -> list[Path]:
        """The complete checkpoints, oldest first."""
        return [path for path in self._named() if path.is_dir() and not path.is_symlink()]

    def _named(self) -> list[Path]:
        """Whatever has a checkpoint's name, in that order: also files and links, which are nobody's checkpoints."""
        if not self.folder.exists():
            return []
        named = [path for path in self.folder.iterdir() if path.name.isascii() and path.name.isdigit()]
        return sorted((path for path in named if path.name == _name(int(path.name))), key=lambda path: int(path.name))

    def save(self, iteration: int, progress: dict) -> Path:
        """Saves beside the final place and renames: a kill in the middle leaves the older checkpoint as it was.

        With several processes all of them call it: each saves its random states, the main one all else.
        """
        final = self.folder / _name(iteration)
        temporary = self.folder / f".{final.name}.tmp"
        try:
            self._save(iteration, progress, temporary, final)
        except Exception as error:  # libraries say in many ways that the disk is full
            told = disk.trouble(error, final)
            with suppress(OSError):
                remove(temporary)  # also for the room that the last word needs
            if told is None:
                raise
            raise told from error
        self._accelerator.wait_for_everyone()
        return final

    def _save(self, iteration: int, progress: dict, temporary: Path, final: Path) -> None:
        if self._accelerator.is_main_process:
            remove(temporary)
        self._accelerator.wait_for_everyone()
        self._accelerator.save_state(str(temporary))
        self._accelerator.wait_for_everyone()
        if self._accelerator.is_main_process:
            about = {"iteration": iteration, "split": self.split, **progress}
            (temporary / PROGRESS).write_text(json.dumps(about), encoding="utf-8")
            if self._export:
                self._export(temporary / LORA)
            _flush_to_disk(temporary)
            remove(final)
            replace(temporary, final)
            self._remove_old()

    def load_newest(self, tell: Callable[[str], None]) -> dict | None:
        """Restores the newest checkpoint that can be read: what was given as progress, or None without checkpoints.

        An older one is taken when the newest is damaged, which is set aside then; tell(message) says so. Raises
        RuntimeError when none can be read: starting anew in silence would throw the training away. With split weights
        it is raised for the newest already: the main process alone reads them, and the others wait for what it has
        read.
        """
        damaged: list[tuple[Path, Exception]] = []
        for path in reversed(self._named()):
            try:
                progress = self._load(path)
            except OtherLaunch:
                raise
            except Exception as error:  # what libraries raise over a damaged file is of every kind
                if is_out_of_memory(error):
                    raise
                if self.split:
                    raise RuntimeError(
                        f"The checkpoint {path} can't be read ({_reason(error)}). Move that folder away and start "
                        "again: the run then goes on from the one before."
                    ) from error
                damaged.append((path, error))
                continue
            if damaged:
                self._accelerator.wait_for_everyone()  # others may still be trying to read them
            for each, failure in damaged:  # only now: while none could be read all must stay where they are
                self._set_aside(each, failure, path, tell)
            if self._accelerator.is_main_process:
                self._remove_old()  # a kill may have come before it
            return progress
        if not damaged:
            return None
        path, failure = damaged[0]
        raise RuntimeError(
            f"No checkpoint in {self.folder} can be read ({path.name}: {_reason(failure)}). Move that folder away to "
            "start anew."
        ) from failure

    def _set_aside(self, path: Path, failure: Exception, taken: Path, tell: Callable[[str], None]) -> None:
        name = ""
        if self._accelerator.is_main_process:
            name = f", its name is {set_aside(path).name} now"
        tell(
            f"The checkpoint {path} can't be read ({_reason(failure)}) and is left out{name}: "
            f"the run goes on from {taken.name}."
        )

    def _load(self, path: Path) -> dict:
        if path.is_symlink() or not path.is_dir():
            raise ValueError("it is a link" if path.is_symlink() else "it is no folder")
        progress = _checked(json.loads((path / PROGRESS).read_text(encoding="utf-8")), int(path.name))
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
        for name, average in self._averages.items():
            state = average.state() if is_main or self.split else {}
            if is_main:
                save_file(state, os.path.join(folder, name))
        weights.clear()  # tells accelerate that the model is taken care of

    def _load_adapter(self, models: list, folder: str) -> None:
        if not self.split:
            self._policy.load_adapter_state(load_file(os.path.join(folder, ADAPTER)))
        for name, average in self._averages.items():
            average.load_state(load_file(os.path.join(folder, name)))
        models.clear()

    def _anywhere(self, flag: bool) -> bool:
        """Whether it is true in any process: with split weights all must know, or some would wait for ever."""
        if not self.split:
            return flag
        return bool(self._accelerator.reduce(torch.tensor(float(flag), device=self._accelerator.device), "sum"))

    def _remove_old(self) -> None:
        for path in [*self.complete()[: -self.keep], *self.folder.glob(".*.tmp")]:
            remove(path)


def _name(iteration: int) -> str:
    return f"{iteration:06d}"


def _checked(progress: Any, iteration: int) -> dict:
    """What progress.json of that iteration's checkpoint holds. Raises ValueError when it can't be that."""
    if not isinstance(progress, dict) or type(progress.get("iteration")) is not int:
        raise ValueError(f"{PROGRESS} names no iteration")
    if progress["iteration"] != iteration:
        raise ValueError(f"{PROGRESS} is of iteration {progress['iteration']}")
    forwards: Any = progress.get("forwards")
    seconds: Any = progress.get("train_seconds")
    if type(forwards) is not int or forwards < 0:
        raise ValueError(f"forwards in {PROGRESS} isn't a count")
    if type(seconds) not in (int, float) or not 0 <= seconds < math.inf:
        raise ValueError(f"train_seconds in {PROGRESS} isn't a time")
    return progress


def _reason(error: Exception) -> str:
    """In a few words. torch's own of a damaged file is a page, and advises to load it unsafely."""
    if isinstance(error, UnpicklingError):
        return "a file in it is damaged"
    return words_of(error).splitlines()[0]


def _flush_to_disk(folder: Path) -> None:
    """A rename may reach the disk before the data it names: flush the data first."""
    for path in folder.iterdir():
        with open(path, "rb+") as file:
            os.fsync(file.fileno())
