"""Reads the weights of published scorers: safetensors, or torch files without running what is in them."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor


def read(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, or of a .pt, .pth or .bin one (weights only: no code in it is run).

    A torch file's "state_dict" is opened by itself. Raises FileNotFoundError or ValueError with one sentence.
    """
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}: put the scorer's weights there.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        values = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"{path.name} can't be read as weights ({reason}): download it again.") from None
    values = values.get("state_dict", values) if isinstance(values, dict) else {}
    tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ValueError(f"{path.name} holds no tensors by name: it isn't the weights of a scorer.")
    return tensors
