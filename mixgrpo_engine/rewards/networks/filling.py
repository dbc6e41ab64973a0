"""Networks of transformers with given weights: made without memory first, since random weights take long at ViT-H."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


def filled(make: Callable[[], Network], tensors: Mapping[str, Tensor]) -> tuple[Network, list[str], list[str]]:
    """(the network of make() with these very tensors in float32, names that it lacks, names that it doesn't know).

    Raises ValueError, saying what, for a tensor of another shape than the network's.
    """
    with torch.device("meta"):
        network = make()
    try:
        lacking, unknown = network.load_state_dict(
            {name: tensor.float().contiguous() for name, tensor in tensors.items()}, strict=False, assign=True
        )
    except RuntimeError as error:
        raise ValueError(str(error).strip().splitlines()[-1].strip()) from None
    for module in network.modules():
        # The only tensors that no file need hold: 0, 1, 2 ...
        if "position_ids" in dict(module.named_buffers(recurse=False)):
            module.position_ids = torch.arange(module.get_buffer("position_ids").shape[-1]).expand(1, -1)
    return network, lacking, unknown
