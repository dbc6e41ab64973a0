"""MixGRPO_Prompts: which prompts are trained on, and which are held out."""

from __future__ import annotations

from pathlib import Path

from comfy_api.latest import io

from ..mixgrpo_engine.prompts import split
from .category import CATEGORY

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
            description="The prompts of a run, one a line, split into training prompts and held-out ones.",
            inputs=[
                io.String.Input(
                    "text", multiline=True, default="",
                    tooltip="One prompt a line. Empty lines and repeated prompts are left out.",
                ),
                io.Combo.Input(
                    "file", options=[NO_FILE, *text_files()], default=NO_FILE,
                    tooltip="A .txt file in ComfyUI's input folder, one prompt a line; added to the text above.",
                ),
                io.Int.Input(
                    "held_out", default=0, min=0, max=100000,
                    tooltip="How many prompts are kept out of the training and only used to measure it. With 0 the "
                    "curve is measured on training prompts.",
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
    def fingerprint_inputs(cls, text: str, file: str, held_out: int, split_seed: int) -> tuple:
        path = None if file == NO_FILE else input_file(file)
        return (text, file, held_out, split_seed, path.stat().st_mtime_ns if path and path.exists() else 0)

    @classmethod
    def execute(cls, text: str, file: str, held_out: int, split_seed: int) -> io.NodeOutput:
        lines = text.splitlines()
        if file != NO_FILE:
            lines += read_lines(file)
        prompts = split(lines, held_out, split_seed)
        return io.NodeOutput(prompts, "\n".join(prompts.train), "\n".join(prompts.held_out))


def text_files() -> list[str]:
    """The .txt files in ComfyUI's input folder."""
    import folder_paths

    folder = Path(folder_paths.get_input_directory())
    return sorted(path.name for path in folder.glob("*.txt")) if folder.is_dir() else []


def input_file(name: str) -> Path:
    """The path of a file in the input folder. Raises ValueError when the name leads out of it."""
    import folder_paths

    folder = Path(folder_paths.get_input_directory()).resolve()
    path = (folder / name).resolve()
    if folder not in path.parents:
        raise ValueError(f"The prompt file '{name}' isn't in ComfyUI's input folder: put it there and choose it again.")
    return path


def read_lines(name: str) -> list[str]:
    """The lines of a prompt file. Raises ValueError with one sentence when it can't be used."""
    path = input_file(name)
    if not path.is_file():
        raise ValueError(f"The prompt file '{name}' isn't in ComfyUI's input folder: put it there and choose it again.")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(f"The prompt file '{name}' is larger than {MAX_FILE_BYTES // 2**20} MB: make it smaller.")
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"The prompt file '{name}' isn't UTF-8 text: save it as UTF-8.") from None


NODES = [MixGRPOPrompts]
