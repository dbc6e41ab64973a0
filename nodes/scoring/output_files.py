"""Places for files in ComfyUI's output folder."""

from __future__ import annotations

import os
from pathlib import Path


def place(prefix: str, width: int = 0, height: int = 0) -> tuple[Path, str, int, str]:
    """(folder, name, counter, subfolder) for `<name>_<counter:05>_...`: numbers that no file there has yet.

    The prefix is that of SaveImage, %date-like words% and subfolders included. Raises ValueError for an empty one or
    one that leads out of the output folder.
    """
    import folder_paths

    root = os.path.abspath(folder_paths.get_output_directory())
    name = os.path.basename(os.path.normpath(prefix)) if prefix.strip() else ""
    if name in ("", ".", "..") or not _inside(root, os.path.dirname(os.path.normpath(prefix))):
        raise ValueError(
            f"filename_prefix is '{prefix}': it must be a name inside ComfyUI's output folder, such as 'mixgrpo/best'."
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
