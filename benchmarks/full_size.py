"""Published models in their real sizes without data, and middle-sized ones with random weights.

Sizes of the architectures: the configurations that ComfyUI detects in the published files of SD3.5 medium and
FLUX.1-dev.
"""

from __future__ import annotations

import torch

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


def without_data(name: str):
    """One of BUILT as a MODEL on the device "meta"."""
    family, dtype = name.split()
    dtype = {"bf16": torch.bfloat16, "fp8": torch.float8_e4m3fn}[dtype]
    return _patcher(_config(family, dtype), torch.bfloat16, torch.device("meta"))


def prompt_without_data(name: str) -> list:
    """The conditioning of a long prompt for it."""
    tokens, pooled = _TOKENS[name.split()[0]]
    return [[torch.zeros(1, tokens, 4096), {"pooled_output": torch.zeros(1, pooled)}]]


def middle_sized(family: str = "middle", dtype: torch.dtype = torch.float32):
    """A random MODEL on the CPU. "middle": 8 joint blocks, 512 wide, 40 million parameters; "middle flux": 2 double
    and 4 single blocks, 256 wide, 8 million.
    """
    model = _patcher(_config(family, dtype), None, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.02)
    return model


def middle_sized_prompt() -> list:
    return [[torch.zeros(1, 77, 256), {"pooled_output": torch.zeros(1, 256)}]]


def vae():
    """A VAE of 16 channels. It is a small one: decode_bytes of a KL VAE is ComfyUI's formula, see KL_BYTES."""
    import comfy.sd
    from comfy.taesd.taesd import TAESD

    return comfy.sd.VAE(sd=TAESD(latent_channels=16).state_dict())


def kl_vae_bytes(width: int, height: int) -> int:
    """Weights (84 million parameters) and the decoding of an image by the KL VAE of SD3 and FLUX in bf16.

    ComfyUI's formula for the decoding: 2178 * latent height * latent width * 64 bytes a byte of the dtype.
    """
    return 2 * (84_000_000 + 2178 * (height // 8) * (width // 8) * 64)


def _config(family: str, dtype: torch.dtype):
    import comfy.supported_models

    if "flux" in family:
        from comfy.ldm.flux.model import FluxParams

        newer = {"txt_ids_dims": []} if "txt_ids_dims" in FluxParams.__dataclass_fields__ else {}
        sizes = _MIDDLE_FLUX if family == "middle flux" else _FLUX
        return comfy.supported_models.Flux({**sizes, **newer, "dtype": dtype})
    sizes = {"sd3.5_medium": _SD35_MEDIUM, "middle": _MIDDLE}[family]
    return comfy.supported_models.SD3({**sizes, "dtype": dtype})


def _patcher(config, compute_dtype, device: torch.device):
    import comfy.model_patcher

    dtype = config.unet_config["dtype"]
    config.set_inference_dtype(dtype, None if compute_dtype == dtype else compute_dtype)
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(config.get_model({}, device=device), load_device=cpu, offload_device=cpu)
