"""The dtype that a private copy computes in while it is trained."""

from __future__ import annotations

import torch

from ..comfy_types import BaseModel


def use_training_dtype(model: BaseModel, device: torch.device, notices: list[str] | None = None) -> torch.dtype:
    """Lets a private copy that would compute in float16 compute in bfloat16, where the device has it; the dtype then.

    float16 loses small gradients, and ComfyUI picks it for some families (SD3, AuraFlow, Wan) and cards. As its own
    training nodes do, rollout and update alike compute in bfloat16. Where there is only float16 it stays, and
    gradient_scale.py keeps the gradients in its range. notices: gets a sentence about what differs from sampling.
    """
    notices = [] if notices is None else notices
    dtype = model.manual_cast_dtype or model.get_dtype()
    if dtype != torch.float16:
        return dtype
    if not _has_bfloat16(device):
        notices.append("The MODEL computes in float16: gradients are scaled, so that they stay in its range.")
        return dtype
    notices.append(
        "The MODEL computes in float16 for sampling: it is trained in bfloat16, which keeps small gradients."
    )
    network = model.diffusion_model
    for tensor in (*network.parameters(), *network.buffers()):
        # One by one, so that no second copy of the weights is held. Quantised ones are cast when they are used.
        if tensor.dtype == torch.float16 and type(tensor.data) is torch.Tensor:
            tensor.data = tensor.data.to(torch.bfloat16)
    for module in network.modules():
        if getattr(module, "dtype", None) == torch.float16:
            module.dtype = torch.bfloat16
    if model.manual_cast_dtype is not None:
        model.manual_cast_dtype = torch.bfloat16
    return torch.bfloat16


def _has_bfloat16(device: torch.device) -> bool:
    import comfy.model_management

    return device.type == "cpu" or comfy.model_management.should_use_bf16(device)
