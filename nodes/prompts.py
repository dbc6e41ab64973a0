"""MixGRPO_Prompts: which prompts, or items with pictures, are trained on, and which are held out."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..mixgrpo_engine import prompt_files
from ..mixgrpo_engine.items import Item, named
from ..mixgrpo_engine.prompts import AUTOMATIC, split
from ..mixgrpo_engine.records.readable import readable
from . import item_files
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
            description="The prompts of a LoRA training, one a line, split into training prompts and held-out ones. "
            "Prompts with pictures (edits, inpainting, image to video) are items: see MixGRPO Item.",
            is_input_list=True,
            inputs=[
                io.String.Input(
                    "text", multiline=True, default="",
                    tooltip="One prompt a line. Empty lines and repeated prompts are left out. Or connect a list of "
                    "texts: each is a prompt.",
                ),
                io.Combo.Input(
                    "file", options=[NO_FILE, *files()], default=NO_FILE,
                    tooltip="A file in ComfyUI's input folder; its prompts are added to the text above. .txt: one "
                    'prompt a line. .jsonl: {"prompt": "..."} a line. .csv: its column "prompt". The columns "image", '
                    '"mask" and "image_2" name pictures beside the file; any others are for MixGRPO Item and for '
                    "rewards. Or a folder of pictures, each with its prompt in a .txt of the same name.",
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
                io.Image.Input(
                    "images", optional=True,
                    tooltip="Pictures to begin from, one an item: text has a prompt for each, or one for all.",
                ),
            ],
            outputs=[
                PROMPTS.Output(display_name="prompts", tooltip="For MixGRPO Train."),
                io.String.Output(display_name="train", tooltip="The training prompts, one a line."),
                io.String.Output(display_name="held_out", tooltip="The held-out prompts, one a line."),
            ],
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(cls, file: list[str | None], **_: Any) -> Any:
        # What is linked isn't known here: None.
        if file[0] in (None, NO_FILE):
            return (file, 0)
        with contextlib.suppress(OSError, ValueError):  # said by execute()
            # Prompts, columns, and the pictures' paths and content.
            return (file, hashlib.sha256(repr(read_file(str(file[0]))).encode()).hexdigest())
        return float("nan")

    @classmethod
    def execute(
        cls, text: list[str], file: list[str], held_out: list[int], split_seed: list[int],
        images: list[Tensor] | None = None,
    ) -> io.NodeOutput:  # fmt: skip
        listed, name = prompt_files.of_texts(text), only("file", file)
        found = item_files.of_images(images, listed) if images else [Item(prompt) for prompt in listed]
        if name != NO_FILE:
            found += read_file(name)
        items = named(found)
        rich = {name: item for name, item in items.items() if item.pictures or item.columns}
        prompts = split(items, only("held_out", held_out), only("split_seed", split_seed), rich)
        return io.NodeOutput(
            prompts, *(as_text([*map(prompts.text, each)]) for each in (prompts.train, prompts.held_out))
        )


def only(name: str, values: list) -> Any:
    """The one value of a widget that isn't meant to be a list: this node gets every input as one."""
    if len(values) != 1:
        raise ValueError(f"{name} of MixGRPO Prompts is a list of {len(values)}: connect a single value.")
    return values[0]


def as_text(prompts: Sequence[str]) -> str:
    """One prompt a line; of a prompt of several lines they stand side by side."""
    return "\n".join(re.sub(r"\r?\n", " ", prompt) for prompt in prompts)


def files() -> list[str]:
    """The files in ComfyUI's input folder that can hold prompts, and its folders that hold pictures."""
    root = item_files.root()
    found = sorted(root.iterdir()) if root.is_dir() else []
    lists = [path.name for path in found if path.suffix.lower() in prompt_files.SUFFIXES]
    folders = [path for path in found if path.is_dir() and path.name != item_files.OF_GRAPHS]
    return lists + [f"{path.name}/" for path in folders if any(item_files.pictures_of(path))]


def input_file(name: str) -> Path:
    """The path of a file or folder in the input folder. Raises ValueError when the name leads out of it."""
    folder = item_files.root()
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # what can't be a path
        path = (folder / name).resolve()
        if folder in path.parents:
            return path
    raise _missing(name)


def _missing(name: str) -> ValueError:
    what = f"The prompt file '{readable(name, 200)}'"
    return ValueError(f"{what} isn't in ComfyUI's input folder: put it there and choose it again.")


def read_file(name: str) -> list[Item]:
    """What a file or folder in the input folder holds. Raises ValueError with one sentence when it can't be used."""
    path = input_file(name)
    if os.path.isdir(path):
        return item_files.of_folder(path)
    if not os.path.isfile(path):  # also for a name that is too long to be one
        raise _missing(name)
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(f"The prompt file '{name}' is larger than {MAX_FILE_BYTES // 2**20} MB: make it smaller.")
    return item_files.of_list(path)


NODES = [MixGRPOPrompts]
