"""The LoRA file that a run goes on from: one of those that ComfyUI's LoRA loaders list."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from ...mixgrpo_engine.records import files

NONE = "none"


def choices() -> list[str]:
    import folder_paths

    return [NONE, *folder_paths.get_filename_list("loras")]


def sha256(name: str) -> str:
    """Of the file's content: a changed file makes another run."""
    return files.sha256(path(name))


def load(name: str) -> dict[str, Tensor]:
    """Its tensors, as ComfyUI's LoRA loaders read them."""
    import comfy.utils

    tensors: dict[str, Tensor] = comfy.utils.load_torch_file(str(path(name)), safe_load=True)
    return tensors


def require_unchanged(name: str, expected: str) -> None:
    """Raises ValueError when a run can't go on, because the file that it was started from isn't the same any more."""
    if sha256(name) != expected:
        raise ValueError(
            f"The LoRA '{name}' has changed since this run began from it: restore it, or queue the graph again, which "
            "makes another run."
        )


def path(name: str) -> Path:
    """Of the file. Raises ValueError for a name that ComfyUI's LoRA loaders don't know."""
    import folder_paths

    found = folder_paths.get_full_path("loras", name)
    if found is None:
        raise ValueError(f"start_from is '{name}', which isn't among ComfyUI's LoRAs: press R and choose another one.")
    return Path(found)
