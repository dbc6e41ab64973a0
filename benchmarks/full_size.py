"""Published models in their real sizes, without data or with random weights, and smaller random ones.

Sizes of the architectures: the configurations that ComfyUI detects in the published files of SD3.5 medium and
FLUX.1-dev.
"""

from __future__ import annotations

import torch

DTYPES = {"bf16": torch.bfloat16, "fp8": torch.float8_e4m3fn, "float32": torch.float32}
BUILT = ("sd3.5_medium bf16", "flux1-dev fp8", "flux1-dev bf16")

_SD35_MEDIUM = {
    "in_channels": 16, "patch_size": 2, "depth": 24, "input_size": None, "adm_in_channels": 2048, "qk_norm": "rms",
    "x_block_self_attn_layers": list(range(13)), "num_patches": 147456, "pos_embed_max_size": 384,
    "pos_embed_scaling_factor": None,
    "context_embedder_config": {
        "target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 1536}
    },
}  # fmt: skip
_FLUX = {
    "image_model": "flux", "in_channels": 16, "out_channels": 16, "patch_size": 2, "vec_in_dim": 768,
    "context_in_dim": 4096, "hidden_size": 3072, "mlp_ratio": 4.0, "num_heads": 24, "depth": 19,
    "depth_single_blocks": 38, "axes_dim": [16, 56, 56], "theta": 10000, "qkv_bias": True, "guidance_embed": True,
}  # fmt: skip
_TOKENS = {"sd3.5_medium": (333, 2048), "flux1-dev": (512, 768)}  # of a long prompt; width of the pooled vector
_MIDDLE = {**_SD35_MEDIUM, "depth": 8, "x_block_self_attn_layers": [0, 1, 2, 3], "num_patches": 4096,
           "pos_embed_max_size": 64, "adm_in_channels": 256,
           "context_embedder_config": {"target": "torch.nn.Linear",
                                       "params": {"in_features": 256, "out_features": 512}}}  # fmt: skip

# A forward of 128 pixels takes one core 10 to 20 ms.
_MIDDLE_FLUX = {**_FLUX, "hidden_size": 256, "num_heads": 4, "depth": 2, "depth_single_blocks": 4,
                "axes_dim": [16, 24, 24], "vec_in_dim": 256, "context_in_dim": 256}  # fmt: skip


# Two layers of each, for the CPU, and what their prompts are: tokens, their width, width of the pooled vector.
_SMALL = {
    "sd3.5_medium": {
        **_MIDDLE, "depth": 2, "x_block_self_attn_layers": [0], "adm_in_channels": 32,
        "context_embedder_config": {"target": "torch.nn.Linear", "params": {"in_features": 64, "out_features": 128}},
    },
    "flux1-dev": {
        **_FLUX, "hidden_size": 64, "num_heads": 2, "depth": 1, "depth_single_blocks": 1, "axes_dim": [8, 12, 12],
        "context_in_dim": 64, "vec_in_dim": 32,
    },
}  # fmt: skip
_SMALL_PROMPT = (8, 64, 32)


def without_data(name: str):
    """One of BUILT as a MODEL on the device "meta"."""
    family, dtype = name.split()
    return _patcher(_config(family, DTYPES[dtype]), torch.bfloat16, torch.device("meta"), torch.device("cpu"))


def random_weights(name: str, device: torch.device, offload: torch.device | None = None, small: bool = False):
    """One of BUILT, or that in another of DTYPES, with random weights that are made on the device.

    offload: where ComfyUI keeps it while it isn't used; the device itself when None, so that nothing travels.
    small: two layers of it. Weights of one name are the same in every dtype but for its rounding.
    """
    family, dtype = name.split()
    compute = torch.float32 if dtype == "float32" else torch.bfloat16
    model = _patcher(_config(family, DTYPES[dtype], small), compute, device, device, offload or device)
    model.model.to(device)
    randomise(model.model.diffusion_model, device)
    model.model.to(model.offload_device)
    return model


@torch.no_grad()
def randomise(network, device: torch.device):
    """Fills a network on the device with random weights, whose activations keep order one; gives the network."""
    generator = torch.Generator(device).manual_seed(0)
    for parameter in network.parameters():
        values = torch.empty(parameter.shape, device=device, dtype=torch.bfloat16).normal_(generator=generator)
        # Scales of norms near 1, the rest small.
        parameter.copy_(values / parameter[0].numel() ** 0.5 if parameter.ndim > 1 else 1 + 0.1 * values)
    for name, buffer in network.named_buffers():
        if name.endswith("pos_embed"):  # SD3's table of positions starts as uninitialised memory
            buffer.copy_(0.1 * torch.randn(buffer.shape, device=device, generator=generator))
    return network


def random_prompt(name: str, seed: int, small: bool = False) -> list:
    """The conditioning of a long prompt for it."""
    family = name.split()[0]
    tokens, pooled = _TOKENS[family]
    tokens, width, pooled = _SMALL_PROMPT if small else (tokens, 4096, pooled)
    generator = torch.Generator().manual_seed(seed)
    vector = torch.randn(1, pooled, generator=generator)
    return [[torch.randn(1, tokens, width, generator=generator), {"pooled_output": vector}]]


def prompt_without_data(name: str) -> list:
    """The conditioning of a long prompt for it."""
    tokens, pooled = _TOKENS[name.split()[0]]
    return [[torch.zeros(1, tokens, 4096), {"pooled_output": torch.zeros(1, pooled)}]]


def middle_sized(family: str = "middle", dtype: torch.dtype = torch.float32):
    """A random MODEL on the CPU. "middle": 8 joint blocks, 512 wide, 40 million parameters; "middle flux": 2 double
    and 4 single blocks, 256 wide, 9 million.
    """
    cpu = torch.device("cpu")
    model = _patcher(_config(family, dtype), None, cpu, cpu)
    randomise(model.model.diffusion_model, cpu)
    return model


def middle_sized_prompt() -> list:
    return [[torch.zeros(1, 77, 256), {"pooled_output": torch.zeros(1, 256)}]]


def vae():
    """A random VAE of 16 channels. It is a small one: what a KL VAE takes is ComfyUI's formula, see kl_vae_bytes."""
    import comfy.sd
    from comfy.taesd.taesd import TAESD

    network, generator = TAESD(latent_channels=16), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            size = 0.7 / parameter[0].numel() ** 0.5 if parameter.ndim > 1 else 0.01
            parameter.copy_(size * torch.randn(parameter.shape, generator=generator))
        network.taesd_decoder[-1].bias.fill_(0.5)  # pictures are grey, not black
    return comfy.sd.VAE(sd=network.state_dict())


def kl_vae_bytes(width: int, height: int) -> int:
    """Weights (84 million parameters) and the decoding of an image by the KL VAE of SD3 and FLUX in bf16.

    ComfyUI's formula for the decoding: 2178 * latent height * latent width * 64 bytes a byte of the dtype.
    """
    return 2 * (84_000_000 + 2178 * (height // 8) * (width // 8) * 64)


def _config(family: str, dtype: torch.dtype, small: bool = False):
    import comfy.supported_models

    if "flux" in family:
        from comfy.ldm.flux.model import FluxParams

        newer = {"txt_ids_dims": []} if "txt_ids_dims" in FluxParams.__dataclass_fields__ else {}
        sizes = {"flux1-dev": _SMALL["flux1-dev"] if small else _FLUX, "middle flux": _MIDDLE_FLUX}[family]
        return comfy.supported_models.Flux({**sizes, **newer, "dtype": dtype})
    sizes = {"sd3.5_medium": _SMALL["sd3.5_medium"] if small else _SD35_MEDIUM, "middle": _MIDDLE}[family]
    return comfy.supported_models.SD3({**sizes, "dtype": dtype})


def _patcher(config, compute_dtype, made_on: torch.device, device: torch.device, offload: torch.device | None = None):
    import comfy.model_patcher

    dtype = config.unet_config["dtype"]
    config.set_inference_dtype(dtype, None if compute_dtype == dtype else compute_dtype)
    model = config.get_model({}, device=made_on)
    return comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=offload or device)
