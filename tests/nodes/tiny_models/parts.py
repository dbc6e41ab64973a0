"""What goes with a tiny MODEL: VAE, text encoder, prompts; and a model that isn't flow matching."""

import functools

import torch

from .build import patcher, randomise

SIZE = 128  # pixels: 16 x 16 latents, 64 image tokens
CONTEXT, POOLED = 64, 32


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
    return patcher(config, None, 0)


def vae(channels=16, seed=0):
    """A TAESD with random weights."""
    import comfy.sd
    from comfy.taesd.taesd import TAESD

    taesd = TAESD(latent_channels=channels)
    randomise(taesd, seed)
    # FLUX.2's TAESD packs four latents into one, which newer versions can't read off its weights.
    return comfy.sd.VAE(sd=taesd.state_dict(), metadata={"tae_latent_channels": channels})


def wan_vae(seed=0):
    """ComfyUI's own Wan VAE, made thin; four frames after the first are one step of the latents' time."""
    import comfy.ldm.wan.vae
    import comfy.sd

    sizes = {"dim": 8, "z_dim": 16, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_scales": []}
    network = comfy.ldm.wan.vae.WanVAE(**sizes, temperal_downsample=[False, True, True], dropout=0.0)
    randomise(network, seed)
    with torch.no_grad():
        network.decoder.head[2].weight *= 0.3
        network.decoder.head[2].bias.zero_()  # grey in the middle: around 1 everything would be white
    return comfy.sd.VAE(sd=network.state_dict())


def conditioning(seed, tokens=8):
    """A prompt as CLIPTextEncode would give it: random tokens and a pooled vector."""
    generator = torch.Generator().manual_seed(seed)
    return [
        [
            torch.randn(1, tokens, CONTEXT, generator=generator),
            {"pooled_output": torch.randn(1, POOLED, generator=generator)},
        ]
    ]


CLIP_CONFIG = {
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "hidden_size": 32,
    "intermediate_size": 64,
    "hidden_act": "quick_gelu",
    "max_position_embeddings": 77,
    "eos_token_id": 49407,
}


def clip():
    """A CLIP of two layers, 32 wide, random, with ComfyUI's own CLIP-L tokenizer."""
    import comfy.sd
    import comfy.sd1_clip
    import comfy.supported_models_base

    encoder = functools.partial(comfy.sd1_clip.SDClipModel, textmodel_json_config=dict(CLIP_CONFIG))
    model = functools.partial(comfy.sd1_clip.SD1ClipModel, clip_model=encoder)
    target = comfy.supported_models_base.ClipTarget(comfy.sd1_clip.SD1Tokenizer, model)
    result = comfy.sd.CLIP(target)
    randomise(result.cond_stage_model, 0)
    return result


def train_a_little(policy, size=0.05, seed=7):
    """Moves the adapter away from its start, B above all, so that it does something."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in policy.adapter_state().values():
            tensor += size * torch.randn(tensor.shape, generator=generator)
