"""Weights and wrappers of a tiny model."""

import torch


def patcher(config, compute_dtype, seed):
    import comfy.model_management
    import comfy.model_patcher

    config.set_inference_dtype(config.unet_config["dtype"], compute_dtype)
    model = config.get_model({})
    randomise(model.diffusion_model, seed)
    device = comfy.model_management.get_torch_device()
    return comfy.model_patcher.ModelPatcher(
        model, load_device=device, offload_device=comfy.model_management.unet_offload_device()
    )


@torch.no_grad()
def randomise(module, seed):
    """ComfyUI's layers start as uninitialised memory. Norm scales near 1, the rest small enough to keep order one."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        values = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1:
            values /= parameter[0].numel() ** 0.5
        else:
            values = 1 + 0.1 * values
        parameter.copy_(values)
    for name, buffer in module.named_buffers():
        if name == "pos_embed":  # SD3's table of positions: uninitialised, too
            buffer.copy_(0.1 * torch.randn(buffer.shape, generator=generator))
