"""MixGRPO_Prompts: which prompts are trained on, and which are held out."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from comfy_api.latest import io

from ..mixgrpo_engine import prompt_files
from ..mixgrpo_engine.prompts import AUTOMATIC, split
from ..mixgrpo_engine.records.readable import readable
from .category import CATEGORY, found_by

PROMPTS = io.Custom("MIXGRPO_PROMPTS")
NO_FILE = "none"
MAX_FILE_BYTES = 64 * 1024 * 1024


class MixGRPOPrompts(io.ComfyNode):
    FILES = ("file",)

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_Prompts",
            display_name="MixGRPO Prompts",
            category=CATEGORY,
            **found_by("dataset", "captions", "training prompts", "held-out prompts", "LoRA training"),
            description="The prompts of a LoRA training, one a line, split into training prompts and held-out ones.",
            is_input_list=True,
            inputs=[
                io.String.Input(
                    "text", multiline=True, default="",
                    tooltip="One prompt a line. Empty lines and repeated prompts are left out. Or connect a list of "
                    "texts: each is a prompt.",
                ),
                io.Combo.Input(
                    "file", options=[NO_FILE, *text_files()], default=NO_FILE,
                    tooltip="A file in ComfyUI's input folder; its prompts are added to the text above. .txt: one "
                    'prompt a line. .jsonl: {"prompt": "..."} a line. .csv: its column "prompt".',
                ),
                io.Int.Input(
                    "held_out", default=AUTOMATIC, min=AUTOMATIC, max=100000,
                    tooltip="How many prompts are kept out of the training and only used to measure it. -1 takes about "
                    "a fifth of them, 1 to 32, and none of fewer than 4. With 0 the curve is measured on training "
                    "prompts.",
                ),
                io.Int.Input(
                    "split_seed", default=0, min=0, max=2**31 - 1, control_after_generate=False,
                    tooltip="Which prompts are held out: the same number always picks the same ones.",
                ),
            ],
            outputs=[
                PROMPTS.Output(display_name="prompts", tooltip="For MixGRPO Train."),
                io.String.Output(display_name="train", tooltip="The training prompts, one a line."),
                io.String.Output(display_name="held_out", tooltip="The held-out prompts, one a line."),
            ],
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(cls, file: list[str | None], **others: Any) -> tuple:
        # What is linked isn't known here: None.
        path = None if file[0] in (None, NO_FILE) else input_file(str(file[0]))
        return (file, *others.values(), path.stat().st_mtime_ns if path and os.path.exists(path) else 0)

    @classmethod
    def execute(cls, text: list[str], file: list[str], held_out: list[int], split_seed: list[int]) -> io.NodeOutput:
        listed, name = prompt_files.of_texts(text), only("file", file)
        if name != NO_FILE:
            listed += read_file(name)
        prompts = split(listed, only("held_out", held_out), only("split_seed", split_seed))
        return io.NodeOutput(prompts, as_text(prompts.train), as_text(prompts.held_out))


def only(name: str, values: list) -> Any:
    """The one value of a widget that isn't meant to be a list: this node gets every input as one."""
    if len(values) != 1:
        raise ValueError(f"{name} of MixGRPO Prompts is a list of {len(values)}: connect a single value.")
    return values[0]


def as_text(prompts: Sequence[str]) -> str:
    """One prompt a line; of a prompt of several lines they stand side by side."""
    return "\n".join(re.sub(r"\r?\n", " ", prompt) for prompt in prompts)


def text_files() -> list[str]:
    """The files in ComfyUI's input folder that can hold prompts."""
    import folder_paths

    folder = Path(folder_paths.get_input_directory())
    found = folder.iterdir() if folder.is_dir() else []
    return sorted(path.name for path in found if path.suffix.lower() in prompt_files.SUFFIXES)


def input_file(name: str) -> Path:
    """The path of a file in the input folder. Raises ValueError when the name leads out of it."""
    import folder_paths

    folder = Path(folder_paths.get_input_directory()).resolve()
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # what can't be a path
        path = (folder / name).resolve()
        if folder in path.parents:
            return path
    raise _missing(name)


def _missing(name: str) -> ValueError:
    what = f"The prompt file '{readable(name, 200)}'"
    return ValueError(f"{what} isn't in ComfyUI's input folder: put it there and choose it again.")


def read_file(name: str) -> list[str]:
    """The prompts of a file in the input folder. Raises ValueError with one sentence when it can't be used."""
    path = input_file(name)
    if not os.path.isfile(path):  # also for a name that is too long to be one
        raise _missing(name)
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(f"The prompt file '{name}' is larger than {MAX_FILE_BYTES // 2**20} MB: make it smaller.")
    return prompt_files.read(path)


NODES = [MixGRPOPrompts]
