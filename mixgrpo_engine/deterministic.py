"""The same bits at each start: PyTorch's strict algorithms, which name an operation that has none."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

# torch is imported where it is used: a worker calls prepare() before ComfyUI has set torch up.

_WITHOUT = re.compile(r"(\S+) does not have a deterministic implementation")


def prepare() -> None:
    """Before CUDA starts, which reads the environment once. A value that the user has given stays."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@contextmanager
def same_bits(wanted: bool = True) -> Iterator[None]:
    """Inside it only operations with a deterministic algorithm run, if that is wanted.

    Raises RuntimeError with one sentence that names another one.
    """
    if not wanted:
        yield
        return
    import torch
    from torch.backends import cudnn

    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    chosen = cudnn.deterministic, cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    except RuntimeError as error:
        if found := _WITHOUT.search(str(error)):
            raise RuntimeError(
                f"The operation {found[1]} has no deterministic form in this PyTorch: switch deterministic off, or "
                "leave out the model or reward that needs it."
            ) from error
        raise
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        cudnn.deterministic, cudnn.benchmark = chosen
