"""Published models in their real sizes, without data or with random weights, and smaller random ones.

Sizes of the architectures: the configurations that ComfyUI detects in the published files.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

DTYPES = {
    "bf16": torch.bfloat16, "fp8": torch.float8_e4m3fn, "fp16": torch.float16, "float32": torch.float32,
}  # fmt: skip
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
_Z_IMAGE = {
    "image_model": "lumina2", "patch_size": 2, "in_channels": 16, "dim": 3840, "cap_feat_dim": 2560, "n_layers": 30,
    "qk_norm": True, "n_heads": 30, "n_kv_heads": 30, "axes_dims": [32, 48, 48], "axes_lens": [1536, 512, 512],
    "rope_theta": 256.0, "ffn_dim_multiplier": 8 / 3, "z_image_modulation": True, "time_scale": 1000.0,
    "pad_tokens_multiple": 32,
}  # fmt: skip
_QWEN_IMAGE = {"image_model": "qwen_image", "in_channels": 64, "num_layers": 60}
_CHROMA = {
    **{key: value for key, value in _FLUX.items() if key not in ("vec_in_dim", "guidance_embed")},
    "image_model": "chroma", "in_channels": 64, "out_channels": 64, "in_dim": 64, "out_dim": 3072, "hidden_dim": 5120,
    "n_layers": 5,
}  # fmt: skip
_WAN22_5B = {
    "image_model": "wan2.1", "model_type": "t2v", "dim": 3072, "out_dim": 48, "in_dim": 48, "num_heads": 24,
    "ffn_dim": 14336, "num_layers": 30, "patch_size": (1, 2, 2), "freq_dim": 256, "window_size": (-1, -1),
    "qk_norm": True, "cross_attn_norm": True, "eps": 1e-6,
}  # fmt: skip
_FLUX2_KLEIN_4B = {
    "image_model": "flux2", "in_channels": 128, "out_channels": 128, "patch_size": 1, "context_in_dim": 7680,
    "hidden_size": 3072, "mlp_ratio": 3.0, "num_heads": 24, "depth": 5, "depth_single_blocks": 20,
    "axes_dim": [32, 32, 32, 32], "theta": 2000, "qkv_bias": False, "guidance_embed": False, "global_modulation": True,
    "mlp_silu_act": True, "ops_bias": False, "default_ref_method": "index", "ref_index_scale": 10.0,
    "vec_in_dim": None,
}  # fmt: skip
# ComfyUI's name of a model's settings, the settings, tokens of a long prompt and their width, width of the pooled one.
_PUBLISHED: dict[str, tuple[str, dict[str, Any], int, int, int]] = {
    "sd3.5_medium": ("SD3", _SD35_MEDIUM, 333, 4096, 2048),
    "flux1-dev": ("Flux", _FLUX, 512, 4096, 768),
    "flux2-klein-base-4b": ("Flux2", _FLUX2_KLEIN_4B, 512, 7680, 0),
    "z_image": ("ZImage", _Z_IMAGE, 512, 2560, 0),
    "qwen_image": ("QwenImage", _QWEN_IMAGE, 512, 3584, 0),
    "chroma1-hd": ("Chroma", _CHROMA, 512, 4096, 0),
    "wan2.2_ti2v_5B": ("WAN22_T2V", _WAN22_5B, 512, 4096, 0),
}
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
    """A published model and its weights' dtype, as in "flux1-dev fp8", as a MODEL on the device "meta"."""
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
    *_, tokens, width, pooled = _PUBLISHED[family]
    tokens, width, pooled = _SMALL_PROMPT if small else (tokens, width, pooled)
    generator = torch.Generator().manual_seed(seed)
    vector = torch.randn(1, pooled, generator=generator)
    return [[torch.randn(1, tokens, width, generator=generator), {"pooled_output": vector}]]


def prompt_without_data(name: str) -> list:
    """The conditioning of a long prompt for it."""
    *_, tokens, width, pooled = _PUBLISHED[name.split()[0]]
    return [[torch.zeros(1, tokens, width), {"pooled_output": torch.zeros(1, pooled) if pooled else None}]]


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


class PublishedVae:
    """What the estimate asks of a published VAE: no weights, and ComfyUI's formula for the decoding in bf16."""

    def __init__(self, latent_channels: int, parameters: int, factor: int, ratio: int = 8) -> None:
        """factor: bytes of the decoding, for each pixel and byte of the dtype. ratio: pixels of a latent's side."""
        self.latent_channels, self.ratio, self.device = latent_channels, ratio, torch.device("cpu")
        self.parameters, self.factor = parameters, factor
        self.first_stage_model, self.vae_dtype = nn.Module(), torch.bfloat16
        # Of a video: frames to the length of the latents' time, and back.
        self.downscale_ratio = (lambda frames: (frames + 3) // 4,)
        self.upscale_ratio = (lambda length: 4 * length - 3,)

    def spacial_compression_decode(self) -> int:
        return self.ratio

    def memory_used_decode(self, shape: tuple[int, ...], _dtype: torch.dtype) -> int:
        return 2 * self.factor * math.prod(shape[-2:]) * self.ratio**2

    def bytes_for(self, width: int, height: int) -> int:
        """Of its weights, and the decoding of an image (or video) that isn't cut into tiles."""
        return 2 * (self.parameters + self.factor * width * height)


def published_vae(name: str) -> PublishedVae:
    """The one that belongs to a published model."""
    others = {
        "qwen_image": (16, 127_000_000, 7000),
        "wan2.2_ti2v_5B": (48, 705_000_000, 8000, 16),
        "flux2-klein-base-4b": (128, 84_000_000, 2178, 16),
    }
    return PublishedVae(*others.get(name.split()[0], (16, 84_000_000, 2178)))


def _config(family: str, dtype: torch.dtype, small: bool = False):
    import comfy.supported_models

    middle = {"middle flux": ("Flux", _MIDDLE_FLUX), "middle": ("SD3", _MIDDLE)}
    kind, sizes = middle[family] if family in middle else _PUBLISHED[family][:2]
    sizes = _SMALL[family] if small else sizes
    if kind in ("Flux", "Flux2", "Chroma"):
        import comfy.ldm.chroma.model
        import comfy.ldm.flux.model

        # What newer versions ask for.
        params = comfy.ldm.chroma.model.ChromaParams if kind == "Chroma" else comfy.ldm.flux.model.FluxParams
        newer = {"txt_ids_dims": [3] if kind == "Flux2" else [], "vec_in_dim": None}
        sizes = {**{key: value for key, value in newer.items() if key in params.__dataclass_fields__}, **sizes}
    return getattr(comfy.supported_models, kind)({**sizes, "dtype": dtype})


def _patcher(config, compute_dtype, made_on: torch.device, device: torch.device, offload: torch.device | None = None):
    import comfy.model_patcher

    dtype = config.unet_config["dtype"]
    config.set_inference_dtype(dtype, None if compute_dtype == dtype else compute_dtype)
    model = config.get_model({}, device=made_on)
    return comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=offload or device)
