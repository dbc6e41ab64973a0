"""Reads the weights of published scorers: safetensors, or torch files without running what is in them."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

MOST_UNZIPPED = 2**26
"""Bytes of a torch file that has to be read whole, because it is of the time before they were zip files."""


def read(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, or of a .pt, .pth or .bin one (weights only: no code in it is run).

    A torch file's "state_dict" is opened by itself. Raises FileNotFoundError or ValueError with one sentence.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}: put the scorer's weights there.")
    values = _safetensors(path) if path.suffix.lower() == ".safetensors" else _torch(path)
    values = values.get("state_dict", values) if isinstance(values, Mapping) else {}
    tensors = dict(values.items()) if isinstance(values, Mapping) else {}
    tensors = {name: value for name, value in tensors.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if not tensors:
        raise ValueError(f"{path.name} holds no tensors by name: it isn't the weights of a scorer.")
    empty = next((name for name, tensor in tensors.items() if not tensor.numel()), None)
    if empty is not None:
        raise ValueError(f"{path.name} holds no numbers for {empty}: it isn't complete, download it again.")
    return tensors


def shapes(path: str | Path) -> dict[str, tuple[int, ...]]:
    """What read() would give, without the numbers; {} for an old torch file that is too large to be read for that."""
    path = Path(path)
    if path.suffix.lower() != ".safetensors":
        zipped = zipfile.is_zipfile(path)
        if not zipped and path.stat().st_size > MOST_UNZIPPED:
            return {}
        values = _torch(path, mmap=zipped)
        values = values.get("state_dict", values) if isinstance(values, Mapping) else {}
        found = values.items() if isinstance(values, Mapping) else ()
        return {str(name): tuple(value.shape) for name, value in found if isinstance(value, Tensor)}
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from None


def _safetensors(path: Path) -> object:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from None


def _torch(path: Path, mmap: bool = False) -> object:
    import pickle
    import struct

    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        if "global" not in str(error).lower():
            raise _damaged(path, "it isn't a file of torch") from None
        raise ValueError(
            f"{path.name} holds more than tensors, which could run code: take these weights as .safetensors, or save "
            "its state_dict alone."
        ) from None
    except RuntimeError as error:
        if "TorchScript" not in str(error):
            raise _damaged(path, error) from None
        raise ValueError(
            f"{path.name} is a TorchScript program, which could run code: take these weights as .safetensors."
        ) from None
    # What the unpickler stumbles over in a file that was cut or never was one.
    except (OSError, EOFError, ValueError, LookupError, AttributeError, TypeError, struct.error) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: object) -> ValueError:
    lines = str(error).strip().splitlines()
    return ValueError(
        f"{path.name} can't be read as weights ({lines[0] if lines else type(error).__name__}): download it again."
    )
