"""Tiny random models in files that are laid out as the published ones, for ComfyUI's own loaders.

Widths that other parts rely on are the published ones; layers are few, and the words of the text encoders a hundred.
ComfyUI takes them with the help of tests/comfyui/pack/sizes_of_files.py.
"""

import json

import torch
from safetensors.torch import save_file

from tests.nodes import tiny_models

WORDS = 100
LAYERS = 3
T5_WIDTH, T5_HEADS, HEAD = 4096, 1, 64
FLUX_WIDTH = 128  # one attention head


def write(models, names):
    """The files of these names into ComfyUI's folder `models`."""
    for name in names:
        folder, make, dtype = FILES[name]
        path = models / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            save_file({key: weight.to(dtype).contiguous() for key, weight in make().items()}, path)


def clip_l():
    return _clip(768, 0)


def clip_g():
    # By this layer ComfyUI tells it from others.
    return {**_clip(1280, 1), "text_model.encoder.layers.30.mlp.fc1.weight": torch.zeros(1, 1280)}


def t5xxl():
    inner, ff = T5_HEADS * HEAD, 64
    tensors = {"shared.weight": (WORDS, T5_WIDTH), "encoder.final_layer_norm.weight": (T5_WIDTH,)}
    for number in range(LAYERS):
        block = f"encoder.block.{number}.layer."
        tensors |= {f"{block}0.SelfAttention.{name}.weight": (inner, T5_WIDTH) for name in "qkv"}
        tensors |= {f"{block}0.SelfAttention.o.weight": (T5_WIDTH, inner)}
        tensors |= {f"{block}1.DenseReluDense.wi_{side}.weight": (ff, T5_WIDTH) for side in "01"}
        tensors |= {f"{block}1.DenseReluDense.wo.weight": (T5_WIDTH, ff)}
        tensors |= {f"{block}{side}.layer_norm.weight": (T5_WIDTH,) for side in "01"}
    tensors["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"] = (32, T5_HEADS)
    # By this layer ComfyUI tells it from others.
    return {**_random(tensors, 2), "encoder.block.23.layer.1.DenseReluDense.wi_1.weight": torch.zeros(1, T5_WIDTH)}


def sd35_medium():
    """The MMDiT alone: two joint blocks, 128 wide, the first with the second attention."""
    import comfy.supported_models

    config = {
        "in_channels": 16, "patch_size": 2, "depth": 2, "input_size": None, "adm_in_channels": 2048,
        "context_embedder_config": {
            "target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 128},
        },
        "qk_norm": "rms", "x_block_self_attn_layers": [0], "pos_embed_scaling_factor": None,
        "num_patches": 24**2, "pos_embed_max_size": 24, "dtype": torch.float32,
    }  # fmt: skip
    return _network(comfy.supported_models.SD3(config), 3)


def flux_dev():
    """The transformer alone: one double and one single block."""
    import comfy.supported_models
    from comfy.ldm.flux.model import FluxParams

    config = {
        "image_model": "flux", "in_channels": 16, "out_channels": 16, "patch_size": 2, "vec_in_dim": 768,
        "context_in_dim": 4096, "hidden_size": FLUX_WIDTH, "mlp_ratio": 4.0, "num_heads": 1, "depth": 1,
        "depth_single_blocks": 1, "axes_dim": [16, 56, 56], "theta": 10000, "qkv_bias": True, "guidance_embed": True,
        "dtype": torch.float32,
    }  # fmt: skip
    if "txt_ids_dims" in FluxParams.__dataclass_fields__:  # newer ComfyUI
        config["txt_ids_dims"] = []
    return _network(comfy.supported_models.Flux(config), 4)


def chroma():
    """The transformer alone: one double and one single block, and a small network for their modulations."""
    import comfy.supported_models
    from comfy.ldm.chroma.model import ChromaParams

    config = {
        "image_model": "chroma", "in_channels": 64, "out_channels": 64, "patch_size": 2, "context_in_dim": 4096,
        "hidden_size": FLUX_WIDTH, "mlp_ratio": 4.0, "num_heads": 1, "depth": 1, "depth_single_blocks": 1,
        "axes_dim": [16, 56, 56], "theta": 10000, "qkv_bias": True, "in_dim": 64, "out_dim": FLUX_WIDTH,
        "hidden_dim": 64, "n_layers": 2, "dtype": torch.float32,
    }  # fmt: skip
    newer = {"txt_ids_dims": [], "vec_in_dim": None}
    config |= {name: value for name, value in newer.items() if name in ChromaParams.__dataclass_fields__}
    return _network(comfy.supported_models.Chroma(config), 7)


def kl_vae():
    """Of 16 latent channels, with a quarter of the published one's channels inside."""
    from comfy.ldm.modules.diffusionmodules.model import Decoder, Encoder

    sizes = {"double_z": True, "z_channels": 16, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 32,
             "ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0}  # fmt: skip
    tensors = {}
    for name, part in (("encoder", Encoder(**sizes)), ("decoder", Decoder(**sizes))):
        tiny_models.randomise(part, 5)
        tensors |= _prefixed(f"{name}.", part.state_dict())
    return tensors


def sd35_checkpoint():
    """MODEL and VAE, no text encoders."""
    return {**_prefixed("model.diffusion_model.", sd35_medium()), **_prefixed("first_stage_model.", kl_vae())}


def flux_checkpoint():
    """MODEL, both text encoders and VAE."""
    return {
        **_prefixed("model.diffusion_model.", flux_dev()),
        **_prefixed("text_encoders.clip_l.transformer.", clip_l()),
        **_prefixed("text_encoders.t5xxl.transformer.", t5xxl()),
        **_prefixed("vae.", kl_vae()),
    }


def sd35_folder(folder):
    """The same model as diffusers saves it, in a folder of that path."""
    import diffusers

    transformer = diffusers.SD3Transformer2DModel(
        sample_size=32, in_channels=16, out_channels=16, num_layers=2, attention_head_dim=64, num_attention_heads=2,
        joint_attention_dim=4096, caption_projection_dim=128, pooled_projection_dim=2048, pos_embed_max_size=24,
        dual_attention_layers=(0,), qk_norm="rms_norm",
    )  # fmt: skip
    vae = diffusers.AutoencoderKL(
        block_out_channels=(32, 64, 128, 128), down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, latent_channels=16, layers_per_block=2, scaling_factor=1.5305,
        shift_factor=0.0609, use_quant_conv=False, use_post_quant_conv=False,
    )  # fmt: skip
    for name, part in (("transformer", transformer), ("vae", vae)):
        tiny_models.randomise(part, 6)
        part.save_pretrained(folder / name)
    diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0).save_pretrained(folder / "scheduler")
    index = {"_class_name": "StableDiffusion3Pipeline"}
    for number, make in (("", clip_l), ("_2", clip_g), ("_3", t5xxl)):
        # ComfyUI has its own tokenizers: of the folder's only the places count.
        index |= {f"text_encoder{number}": ["transformers", "x"], f"tokenizer{number}": ["transformers", "x"]}
        for part in ("text_encoder", "tokenizer"):
            (folder / f"{part}{number}").mkdir()
        save_file(make(), folder / f"text_encoder{number}" / "model.safetensors")
    (folder / "model_index.json").write_text(json.dumps(index))


FILES = {
    "clip_l.safetensors": ("text_encoders", clip_l, torch.float16),
    "clip_g.safetensors": ("text_encoders", clip_g, torch.float16),
    "t5xxl_fp16.safetensors": ("text_encoders", t5xxl, torch.float16),
    "t5xxl_fp8_e4m3fn.safetensors": ("text_encoders", t5xxl, torch.float8_e4m3fn),
    "sd3.5_medium.safetensors": ("checkpoints", sd35_checkpoint, torch.float16),
    "flux1-dev-fp8.safetensors": ("checkpoints", flux_checkpoint, torch.float8_e4m3fn),
    "flux1-dev.safetensors": ("diffusion_models", flux_dev, torch.bfloat16),
    "Chroma1-HD-fp8_scaled_rev2.safetensors": ("diffusion_models", chroma, torch.float8_e4m3fn),
    "ae.safetensors": ("vae", kl_vae, torch.float32),
}
"""Published name -> (ComfyUI's folder of models, what is in it, in which dtype)."""


def _clip(width, seed):
    ff = 64
    tensors = {
        "text_model.embeddings.token_embedding.weight": (WORDS, width),
        "text_model.embeddings.position_embedding.weight": (77, width),
        "text_projection.weight": (width, width),
    }
    for number in range(LAYERS):
        layer = f"text_model.encoder.layers.{number}."
        linear = {f"self_attn.{side}_proj": (width, width) for side in ("q", "k", "v", "out")}
        linear |= {"mlp.fc1": (ff, width), "mlp.fc2": (width, ff)}
        for name, shape in linear.items():
            tensors |= {f"{layer}{name}.weight": shape, f"{layer}{name}.bias": shape[:1]}
        for norm in ("layer_norm1", "layer_norm2"):
            tensors |= {f"{layer}{norm}.weight": (width,), f"{layer}{norm}.bias": (width,)}
    tensors |= {f"text_model.final_layer_norm.{kind}": (width,) for kind in ("weight", "bias")}
    return _random(tensors, seed)


def _random(shapes, seed):
    """Norms and biases near 1 and 0, the rest small enough to keep order one."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in shapes.items():
        values = torch.randn(shape, generator=generator)
        if len(shape) > 1:
            tensors[name] = values / shape[1] ** 0.5
        else:
            tensors[name] = 0.1 * values + (0 if name.endswith("bias") else 1)
    return tensors


def _network(config, seed):
    config.set_inference_dtype(torch.float32, None)
    network = config.get_model({}).diffusion_model
    tiny_models.randomise(network, seed)
    return network.state_dict()


def _prefixed(prefix, tensors):
    return {f"{prefix}{key}": tensor for key, tensor in tensors.items()}
