"""Places for files in ComfyUI's output folder."""

from __future__ import annotations

import os
from pathlib import Path

from ...mixgrpo_engine.records.readable import readable

LONGEST = 200  # bytes of a name, which gets a number and an ending; file systems take 255


def place(prefix: str, width: int = 0, height: int = 0) -> tuple[Path, str, int, str]:
    """(folder, name, counter, subfolder) for `<name>_<counter:05>_...`: numbers that no file there has yet.

    The prefix is that of SaveImage, %date-like words% and subfolders included. Raises ValueError for an empty one or
    one that leads out of the output folder, or that no file system takes.
    """
    import folder_paths

    root = os.path.abspath(folder_paths.get_output_directory())
    name = os.path.basename(os.path.normpath(prefix)) if prefix.strip() else ""
    too_long = any(len(part.encode("utf-8", "replace")) > LONGEST for part in Path(prefix).parts) or len(prefix) > 1000
    is_text = readable(prefix, len(prefix) + 1) == prefix  # no NUL, no half of a surrogate pair
    if (
        name in ("", ".", "..")
        or too_long
        or not is_text
        or not _inside(root, os.path.dirname(os.path.normpath(prefix)))
    ):
        raise ValueError(
            f"filename_prefix is '{readable(prefix, 200)}': it must be a name inside ComfyUI's output folder, such as "
            "'mixgrpo/best'."
        )
    folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(prefix, root, width, height)
    return Path(folder), name, counter, subfolder.replace("\\", "/")


def entry(name: str, subfolder: str) -> dict[str, str]:
    """How an output names a file to clients: what /view takes."""
    return {"filename": name, "subfolder": subfolder, "type": "output"}


def _inside(root: str, subfolder: str) -> bool:
    target = os.path.abspath(os.path.join(root, subfolder))
    try:
        return os.path.commonpath((root, target)) == root
    except ValueError:  # another drive
        return False
