"""One function a flow family: a random MODEL of two layers, 64 wide, from ComfyUI's own classes and settings."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from .build import patcher
from .parts import CONTEXT, POOLED, SIZE, conditioning


def sd3(dtype=torch.float32, compute_dtype=None, seed=0, context=CONTEXT):
    """A MODEL of two joint blocks, 128 wide, the first with SD3.5-medium's second attention."""
    import comfy.supported_models

    config = comfy.supported_models.SD3(
        {
            "in_channels": 16,
            "patch_size": 2,
            "depth": 2,
            "input_size": None,
            "adm_in_channels": POOLED,
            "context_embedder_config": {
                "target": "torch.nn.Linear",
                "params": {"in_features": context, "out_features": 128},
            },
            "qk_norm": "rms",
            "x_block_self_attn_layers": [0],
            "pos_embed_scaling_factor": None,
            "dtype": dtype,
        }
    )
    return patcher(config, compute_dtype, seed)


def flux(dtype=torch.float32, compute_dtype=None, seed=0):
    """A MODEL of two double and two single blocks, 64 wide, with guidance embedding like FLUX.1-dev."""
    import comfy.supported_models
    from comfy.ldm.flux.model import FluxParams

    # Which axes of the text's positions count up: none for FLUX.1.
    newer = _known_to(FluxParams, txt_ids_dims=[])
    config = comfy.supported_models.Flux(
        {
            "image_model": "flux",
            "in_channels": 16,
            "out_channels": 16,
            "patch_size": 2,
            "vec_in_dim": POOLED,
            "context_in_dim": CONTEXT,
            "hidden_size": 64,
            "mlp_ratio": 4.0,
            "num_heads": 2,
            "depth": 2,
            "depth_single_blocks": 2,
            "axes_dim": [8, 12, 12],
            "theta": 10000,
            "qkv_bias": True,
            "guidance_embed": True,
            "dtype": dtype,
            **newer,
        }
    )
    return patcher(config, compute_dtype, seed)


def auraflow(dtype=torch.float32, compute_dtype=None, seed=0):
    """A MODEL of one double and two single layers, with positions and register tokens of its own."""
    import comfy.supported_models

    sizes = {"dim": 64, "n_layers": 3, "n_double_layers": 1, "n_heads": 2, "global_conddim": 64, "max_seq": 64}
    config = comfy.supported_models.AuraFlow({**sizes, "cond_seq_dim": CONTEXT, "dtype": dtype})
    return patcher(config, compute_dtype, seed)


def lumina2(dtype=torch.float32, compute_dtype=None, seed=0):
    """A MODEL of two layers and the refiners before them, as in Lumina 2 and Z-Image."""
    import comfy.supported_models

    sizes = {"dim": 64, "n_layers": 2, "n_refiner_layers": 1, "n_heads": 2, "n_kv_heads": 1, "multiple_of": 32}
    positions = {"axes_dims": [8, 12, 12], "axes_lens": [64, 64, 64], "qk_norm": True}
    config = comfy.supported_models.Lumina2(
        {"image_model": "lumina2", "in_channels": 16, "cap_feat_dim": CONTEXT, **sizes, **positions, "dtype": dtype}
    )
    return patcher(config, compute_dtype, seed)


def qwen_image(dtype=torch.float32, compute_dtype=None, seed=0):
    """A MODEL of two blocks whose latents have a time axis."""
    import comfy.supported_models

    sizes = {"num_layers": 2, "attention_head_dim": 32, "num_attention_heads": 2, "axes_dims_rope": (8, 12, 12)}
    config = comfy.supported_models.QwenImage(
        {"image_model": "qwen_image", "in_channels": 64, "joint_attention_dim": CONTEXT, **sizes, "dtype": dtype}
    )
    return patcher(config, compute_dtype, seed)


def omnigen2(dtype=torch.float32, compute_dtype=None, seed=0):
    """OmniGen2: Lumina 2's kind of network, with refiners of its own for reference pictures."""
    import comfy.supported_models

    sizes = {"hidden_size": 64, "num_layers": 2, "num_refiner_layers": 1, "multiple_of": 32, "text_feat_dim": CONTEXT}
    heads = {"num_attention_heads": 2, "num_kv_heads": 1, "axes_dim_rope": (8, 12, 12), "axes_lens": (64, 64, 64)}
    config = comfy.supported_models.Omnigen2({"image_model": "omnigen2", **sizes, **heads, "dtype": dtype})
    return patcher(config, compute_dtype, seed)


def flux2(dtype=torch.float32, compute_dtype=None, seed=0):
    """A MODEL of two double and two single blocks without biases, which share one modulation; patches of one pixel."""
    import comfy.supported_models
    from comfy.ldm.flux.model import FluxParams

    newer = _known_to(FluxParams, txt_ids_dims=[3])
    config = comfy.supported_models.Flux2(
        {
            "image_model": "flux2",
            "in_channels": 128,
            "out_channels": 128,
            "patch_size": 1,
            "vec_in_dim": None,
            "context_in_dim": CONTEXT,
            "hidden_size": 64,
            "mlp_ratio": 3.0,
            "num_heads": 2,
            "depth": 2,
            "depth_single_blocks": 2,
            "axes_dim": [8, 8, 8, 8],
            "theta": 2000,
            "qkv_bias": False,
            "guidance_embed": True,
            "global_modulation": True,
            "mlp_silu_act": True,
            "ops_bias": False,
            "default_ref_method": "index",
            "ref_index_scale": 10.0,
            "dtype": dtype,
            **newer,
        }
    )
    return patcher(config, compute_dtype, seed)


def chroma(dtype=torch.float32, compute_dtype=None, seed=0):
    """A MODEL of two double and two single blocks, whose modulations come from one small network."""
    import comfy.supported_models
    from comfy.ldm.chroma.model import ChromaParams

    config = comfy.supported_models.Chroma(
        {
            "image_model": "chroma",
            "in_channels": 64,
            "out_channels": 64,
            "patch_size": 2,
            "context_in_dim": CONTEXT,
            "hidden_size": 64,
            "mlp_ratio": 4.0,
            "num_heads": 2,
            "depth": 2,
            "depth_single_blocks": 2,
            "axes_dim": [8, 12, 12],
            "theta": 10000,
            "qkv_bias": True,
            "in_dim": 64,
            "out_dim": 64,
            "hidden_dim": 64,
            "n_layers": 2,
            "dtype": dtype,
            **_known_to(ChromaParams, txt_ids_dims=[], vec_in_dim=None),
        }
    )
    return patcher(config, compute_dtype, seed)


def z_image(dtype=torch.float32, compute_dtype=None, seed=0):
    """Lumina 2's network as Z-Image has it: another modulation (at least 256 wide), tokens padded to a multiple."""
    import comfy.supported_models

    sizes = {"dim": 256, "n_layers": 2, "n_refiner_layers": 1, "n_heads": 8, "n_kv_heads": 8, "multiple_of": 32}
    positions = {"axes_dims": [8, 12, 12], "axes_lens": [64, 64, 64], "qk_norm": True, "rope_theta": 256.0}
    own = {"z_image_modulation": True, "time_scale": 1000.0, "pad_tokens_multiple": 32, "ffn_dim_multiplier": 8 / 3}
    config = comfy.supported_models.ZImage(
        {
            "image_model": "lumina2",
            "in_channels": 16,
            "cap_feat_dim": CONTEXT,
            **sizes,
            **positions,
            **own,
            "dtype": dtype,
        }
    )
    return patcher(config, compute_dtype, seed)


def hidream(dtype=torch.float32, compute_dtype=None, seed=0):
    """A MODEL of two double and two single blocks with routed experts, and the text of several Llama layers."""
    import comfy.supported_models

    config = comfy.supported_models.HiDream(
        {
            "image_model": "hidream",
            "in_channels": 16,
            "out_channels": 16,
            "patch_size": 2,
            "num_layers": 2,
            "num_single_layers": 2,
            "attention_head_dim": 32,
            "num_attention_heads": 2,
            "caption_channels": [CONTEXT, CONTEXT],
            "text_emb_dim": POOLED,
            "num_routed_experts": 4,
            "num_activated_experts": 2,
            "axes_dims_rope": (8, 12, 12),
            "max_resolution": (128, 128),
            "llama_layers": [0, 1, 2, 2],
            "dtype": dtype,
        }
    )
    return patcher(config, compute_dtype, seed)


def hunyuan_image(dtype=torch.float32, compute_dtype=None, seed=0, **changes):
    """HunyuanImage 2.1: two double and two single blocks, patches of one pixel; changes: of its settings."""
    import comfy.supported_models
    from comfy.ldm.hunyuan_video.model import HunyuanVideoParams

    config = comfy.supported_models.HunyuanImage21(
        {
            "image_model": "hunyuan_video",
            "in_channels": 64,
            "out_channels": 64,
            "patch_size": [1, 1],
            "vec_in_dim": None,
            "context_in_dim": CONTEXT,
            "hidden_size": 64,
            "mlp_ratio": 4.0,
            "num_heads": 2,
            "depth": 2,
            "depth_single_blocks": 2,
            "axes_dim": [16, 16],
            "theta": 256,
            "qkv_bias": True,
            "guidance_embed": False,
            "byt5": False,
            "meanflow": False,
            "use_cond_type_embedding": False,
            "vision_in_dim": None,
            "dtype": dtype,
            **_known_to(HunyuanVideoParams, meanflow_sum=False),
            **changes,
        }
    )
    return patcher(config, compute_dtype, seed)


def wan21(dtype=torch.float32, compute_dtype=None, seed=0, **changes):
    """Wan 2.1 text-to-video, and both models of Wan 2.2 14B: two blocks, latents with a time axis.

    changes: of its settings; with WAN_FILE its weights are such that a stock loader knows them again.
    """
    import comfy.supported_models

    return patcher(comfy.supported_models.WAN21_T2V({**_wan(16, dtype), **changes}), compute_dtype, seed)


# What ComfyUI takes for granted of a Wan file, or reads off its shapes: a head is 128 wide, the text 4096.
WAN_FILE = {"dim": 128, "num_heads": 1, "freq_dim": 256, "text_dim": 4096}


def wan22(dtype=torch.float32, compute_dtype=None, seed=0):
    """Wan 2.2 5B: the same network on the latents of another VAE."""
    import comfy.supported_models

    return patcher(comfy.supported_models.WAN22_T2V(_wan(48, dtype)), compute_dtype, seed)


def _wan(channels, dtype):
    return {
        "image_model": "wan2.1",
        "model_type": "t2v",
        "in_dim": channels,
        "out_dim": channels,
        "dim": 64,
        "ffn_dim": 128,
        "freq_dim": 64,
        "text_dim": CONTEXT,
        "num_heads": 2,
        "num_layers": 2,
        "patch_size": (1, 2, 2),
        "qk_norm": True,
        "cross_attn_norm": True,
        "eps": 1e-6,
        "dtype": dtype,
    }


def _known_to(params, **newer):
    """Settings that newer versions of ComfyUI demand, of those that this version's dataclass of them has."""
    return {name: value for name, value in newer.items() if name in params.__dataclass_fields__}


def _text_only(seed, tokens=8):
    return [[conditioning(seed, tokens)[0][0], {"pooled_output": None}]]


def _with_mask(seed, tokens=8):
    """As Gemma and Qwen encode: with a mask, here of ones, as for a prompt alone in its batch."""
    return [[conditioning(seed, tokens)[0][0], {"pooled_output": None, "attention_mask": torch.ones(1, tokens)}]]


def _with_llama_layers(seed, tokens=8):
    """As HiDream's encoders give it: T5's tokens, CLIP's pooled vector, and the tokens of each Llama layer."""
    prompt = conditioning(seed, tokens)
    layers = torch.randn(1, 3, tokens, CONTEXT, generator=torch.Generator().manual_seed(seed + 1000))
    return [[prompt[0][0], {**prompt[0][1], "conditioning_llama3": layers}]]


@dataclass(frozen=True)
class Family:
    """A family under test."""

    build: Callable  # (dtype, compute_dtype, seed) -> MODEL
    prompt: Callable = _text_only  # (seed, tokens) -> a prompt as the family's text encoders give it
    size: int = SIZE  # pixels, of a VAE that makes 8 of them one latent


FAMILIES = {
    "sd3": Family(sd3, conditioning),
    "flux": Family(flux, conditioning),
    "flux2": Family(flux2, size=64),
    "auraflow": Family(auraflow),
    "lumina2": Family(lumina2, _with_mask),
    "z_image": Family(z_image, _with_mask),
    "qwen_image": Family(qwen_image, _with_mask),
    "hidream": Family(hidream, _with_llama_layers),
    "chroma": Family(chroma),
    "hunyuan_image": Family(hunyuan_image, _with_mask, size=64),
    "wan21": Family(wan21),
    "wan22": Family(wan22),
}
