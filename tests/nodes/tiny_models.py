"""Tiny random models from ComfyUI's own classes: no files, the real code paths."""

import functools

import torch

SIZE = 128  # pixels: 16 x 16 latents, 64 image tokens
CONTEXT, POOLED = 64, 32


def sd3(dtype=torch.float32, compute_dtype=None, seed=0):
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
                "params": {"in_features": CONTEXT, "out_features": 128},
            },
            "qk_norm": "rms",
            "x_block_self_attn_layers": [0],
            "pos_embed_scaling_factor": None,
            "dtype": dtype,
        }
    )
    return _patcher(config, compute_dtype, seed)


def flux(dtype=torch.float32, compute_dtype=None, seed=0):
    """A MODEL of two double and two single blocks, 64 wide, with guidance embedding like FLUX.1-dev."""
    import comfy.supported_models
    from comfy.ldm.flux.model import FluxParams

    # Newer ComfyUI wants to be told which axes of the text's positions count up; none for FLUX.1.
    newer = {"txt_ids_dims": []} if "txt_ids_dims" in FluxParams.__dataclass_fields__ else {}
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
    return _patcher(config, compute_dtype, seed)


def auraflow(dtype=torch.float32, compute_dtype=None, seed=0):
    """A MODEL of one double and two single layers, with positions and register tokens of its own."""
    import comfy.supported_models

    sizes = {"dim": 64, "n_layers": 3, "n_double_layers": 1, "n_heads": 2, "global_conddim": 64, "max_seq": 64}
    config = comfy.supported_models.AuraFlow({**sizes, "cond_seq_dim": CONTEXT, "dtype": dtype})
    return _patcher(config, compute_dtype, seed)


def lumina2(dtype=torch.float32, compute_dtype=None, seed=0):
    """A MODEL of two layers and the refiners before them, as in Lumina 2 and Z-Image."""
    import comfy.supported_models

    sizes = {"dim": 64, "n_layers": 2, "n_refiner_layers": 1, "n_heads": 2, "n_kv_heads": 1, "multiple_of": 32}
    positions = {"axes_dims": [8, 12, 12], "axes_lens": [64, 64, 64], "qk_norm": True}
    config = comfy.supported_models.Lumina2(
        {"image_model": "lumina2", "in_channels": 16, "cap_feat_dim": CONTEXT, **sizes, **positions, "dtype": dtype}
    )
    return _patcher(config, compute_dtype, seed)


def qwen_image(dtype=torch.float32, compute_dtype=None, seed=0):
    """A MODEL of two blocks whose latents have a time axis."""
    import comfy.supported_models

    sizes = {"num_layers": 2, "attention_head_dim": 32, "num_attention_heads": 2, "axes_dims_rope": (8, 12, 12)}
    config = comfy.supported_models.QwenImage(
        {"image_model": "qwen_image", "in_channels": 64, "joint_attention_dim": CONTEXT, **sizes, "dtype": dtype}
    )
    return _patcher(config, compute_dtype, seed)


def sd15():
    """A small noise-predicting UNet: not flow matching."""
    import comfy.supported_models

    config = comfy.supported_models.SD15(
        {
            "image_size": 32,
            "in_channels": 4,
            "out_channels": 4,
            "model_channels": 32,
            "num_res_blocks": [1],
            "channel_mult": [1],
            "transformer_depth": [1],
            "transformer_depth_output": [1, 1],
            "transformer_depth_middle": 1,
            "use_spatial_transformer": True,
            "num_heads": 4,
            "context_dim": 32,
            "use_linear_in_transformer": False,
            "adm_in_channels": None,
            "use_temporal_attention": False,
            "dtype": torch.float32,
        }
    )
    return _patcher(config, None, 0)


def vae(channels=16, seed=0):
    """A TAESD with random weights."""
    import comfy.sd
    from comfy.taesd.taesd import TAESD

    taesd = TAESD(latent_channels=channels)
    _randomise(taesd, seed)
    return comfy.sd.VAE(sd=taesd.state_dict())


def conditioning(seed, tokens=8):
    """A prompt as CLIPTextEncode would give it: random tokens and a pooled vector."""
    generator = torch.Generator().manual_seed(seed)
    return [
        [
            torch.randn(1, tokens, CONTEXT, generator=generator),
            {"pooled_output": torch.randn(1, POOLED, generator=generator)},
        ]
    ]


def clip():
    """A CLIP of two layers, 32 wide, random, with ComfyUI's own CLIP-L tokenizer."""
    import comfy.sd
    import comfy.sd1_clip
    import comfy.supported_models_base

    config = {
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "hidden_act": "quick_gelu",
        "max_position_embeddings": 77,
        "eos_token_id": 49407,
    }
    encoder = functools.partial(comfy.sd1_clip.SDClipModel, textmodel_json_config=config)
    model = functools.partial(comfy.sd1_clip.SD1ClipModel, clip_model=encoder)
    target = comfy.supported_models_base.ClipTarget(comfy.sd1_clip.SD1Tokenizer, model)
    result = comfy.sd.CLIP(target)
    _randomise(result.cond_stage_model, 0)
    return result


def train_a_little(policy, size=0.05, seed=7):
    """Moves the adapter away from its start, B above all, so that it does something."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in policy.adapter_state().values():
            tensor += size * torch.randn(tensor.shape, generator=generator)


def _patcher(config, compute_dtype, seed):
    import comfy.model_management
    import comfy.model_patcher

    config.set_inference_dtype(config.unet_config["dtype"], compute_dtype)
    model = config.get_model({})
    _randomise(model.diffusion_model, seed)
    device = comfy.model_management.get_torch_device()
    return comfy.model_patcher.ModelPatcher(
        model, load_device=device, offload_device=comfy.model_management.unet_offload_device()
    )


@torch.no_grad()
def _randomise(module, seed):
    """ComfyUI's layers start as uninitialised memory. Norm scales near 1, the rest small enough to keep order one."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        values = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1:
            values /= parameter[0].numel() ** 0.5
        else:
            values = 1 + 0.1 * values
        parameter.copy_(values)
