"""Turns a scorer's torch file into safetensors: the same tensors, in a file that can't hold code."""

from __future__ import annotations

from pathlib import Path

from ...records.files import written_beside
from . import weight_files


def convert(source: str | Path, target: str | Path) -> int:
    """Writes the tensors of `source` (.pt, .pth, .bin) to `target` (.safetensors); returns how many they are.

    Names, shapes and types stay. Raises FileNotFoundError or ValueError with one sentence.
    """
    from safetensors.torch import save_file

    target = Path(target)
    if target.suffix != ".safetensors":
        raise ValueError(f"{target.name} must end in .safetensors.")
    if target.exists():
        raise ValueError(f"{target} is already there: remove it first, or choose another name.")
    # Clones: safetensors refuses tensors that share memory, as tied weights do.
    tensors = {name: tensor.clone().contiguous() for name, tensor in weight_files.read(source).items()}
    with written_beside(target) as unfinished:
        save_file(tensors, unfinished, metadata={"format": "pt"})
    return len(tensors)
