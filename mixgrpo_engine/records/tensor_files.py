"""Tensors to disk as safetensors, atomically."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from .files import written_beside


def save(tensors: Mapping[str, Tensor], path: str | os.PathLike, metadata: Mapping[str, str] | None = None) -> None:
    """Writes a safetensors file beside `path` and renames it into place, so that a reader never sees half of it.

    Tensors may be views, share memory or lie on a device: plain copies of them are written.
    """
    from safetensors.torch import save_file

    path = Path(path)
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with written_beside(path) as temporary:
        save_file(plain, temporary, metadata={"format": "pt", **(metadata or {})})
