"""A run's LoRA in diffusers' own load_lora_weights: every layer is read, and adds what it adds in ComfyUI.

That FLUX and SD3 then make the same velocity is shown in tests/nodes/test_diffusers.py.
"""

import diffusers
import pytest
import torch

from tests.nodes import tiny_models


def as_wide_as_comfyuis(transformer):
    """Z-Image's feed-forward, which ComfyUI rounds up to a multiple of 32; the published size is one."""
    for layer in transformer.layers:
        layer.feed_forward = type(layer.feed_forward)(256, 704)
    return transformer


# The pipeline, and the transformer with the sizes of tiny_models.
PIPELINES = {
    "sd3": (
        "StableDiffusion3Pipeline",
        lambda: diffusers.SD3Transformer2DModel(
            sample_size=32, num_layers=2, num_attention_heads=2, joint_attention_dim=64, caption_projection_dim=128,
            pooled_projection_dim=32, pos_embed_max_size=24, dual_attention_layers=(0,), qk_norm="rms_norm",
        ),
    ),
    "flux": (
        "FluxPipeline",
        lambda: diffusers.FluxTransformer2DModel(
            num_layers=2, num_single_layers=2, attention_head_dim=32, num_attention_heads=2, joint_attention_dim=64,
            pooled_projection_dim=32, guidance_embeds=True, axes_dims_rope=(8, 12, 12),
        ),
    ),
    "flux2": (
        "Flux2Pipeline",
        lambda: diffusers.Flux2Transformer2DModel(
            num_layers=2, num_single_layers=2, attention_head_dim=32, num_attention_heads=2, joint_attention_dim=64,
            axes_dims_rope=(8, 8, 8, 8),
        ),
    ),
    "auraflow": (
        "AuraFlowPipeline",
        lambda: diffusers.AuraFlowTransformer2DModel(
            num_mmdit_layers=1, num_single_dit_layers=2, attention_head_dim=32, num_attention_heads=2,
            joint_attention_dim=64, caption_projection_dim=64, pos_embed_max_size=64,
        ),
    ),
    "z_image": (
        "ZImagePipeline",
        lambda: as_wide_as_comfyuis(
            diffusers.ZImageTransformer2DModel(
                dim=256, n_layers=2, n_refiner_layers=1, n_heads=8, n_kv_heads=8, cap_feat_dim=64,
                axes_dims=[8, 12, 12],
            )
        ),
    ),
    "qwen_image": (
        "QwenImagePipeline",
        lambda: diffusers.QwenImageTransformer2DModel(
            num_layers=2, attention_head_dim=32, num_attention_heads=2, joint_attention_dim=64,
            axes_dims_rope=(8, 12, 12),
        ),
    ),
    "hidream": (
        "HiDreamImagePipeline",
        lambda: diffusers.HiDreamImageTransformer2DModel(
            patch_size=2, in_channels=16, num_layers=2, num_single_layers=2, attention_head_dim=32,
            num_attention_heads=2, caption_channels=[64, 64], text_emb_dim=32, axes_dims_rope=(8, 12, 12),
            llama_layers=[0, 1, 2, 2],
        ),
    ),
    "chroma": (
        "ChromaPipeline",
        lambda: diffusers.ChromaTransformer2DModel(
            num_layers=2, num_single_layers=2, attention_head_dim=32, num_attention_heads=2, joint_attention_dim=64,
            axes_dims_rope=(8, 12, 12), approximator_hidden_dim=64, approximator_layers=2,
        ),
    ),
    "wan21": (
        "WanPipeline",
        lambda: diffusers.WanTransformer3DModel(
            num_attention_heads=2, attention_head_dim=32, text_dim=64, freq_dim=64, ffn_dim=128, num_layers=2
        ),
    ),
}  # fmt: skip
PIPELINES["wan22"] = (
    "WanPipeline",
    lambda: diffusers.WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=32, in_channels=48, out_channels=48, text_dim=64, freq_dim=64,
        ffn_dim=128, num_layers=2,
    ),
)  # fmt: skip
HAS_NO_LOADER = {"hunyuan_image"}
OF_FULL_SIZE_ONLY = {"lumina2"}  # its loader knows the sizes of the published model's qkv only


def test_every_family_is_tried_or_has_no_loader():
    assert tiny_models.FAMILIES.keys() == PIPELINES.keys() | HAS_NO_LOADER | OF_FULL_SIZE_ONLY
    mixins = [base.__name__ for base in diffusers.HunyuanImagePipeline.__mro__]
    assert not any("Lora" in name for name in mixins)


@pytest.fixture(params=PIPELINES)
def name(request, comfy):
    return request.param


def bare_pipeline(name):
    """The pipeline class with nothing but a transformer."""
    kind, transformer = PIPELINES[name]
    kind = getattr(diffusers, kind)
    pipeline = kind.__new__(kind)
    diffusers.DiffusionPipeline.__init__(pipeline)
    parts = dict.fromkeys(set(kind._get_signature_keys(kind)[0]) - {"self"})
    pipeline.register_modules(**{**parts, "transformer": transformer()})
    return pipeline


def layers(module):
    """(down, alpha / rank * up) of each layer with a LoRA."""
    from peft.tuners.lora import LoraLayer

    for layer in module.modules():
        if isinstance(layer, LoraLayer):
            ((adapter, scale),) = layer.scaling.items()
            yield layer.lora_A[adapter].weight.detach(), scale * layer.lora_B[adapter].weight.detach()


def by_down(module):
    """Rows of up by down, which every layer has its own of; what was split for diffusers is together again."""
    found = {}
    for down, up in layers(module):
        found.setdefault(tuple(down.flatten().tolist()), []).extend(map(tuple, up.tolist()))
    return {down: sorted(rows) for down, rows in found.items()}


def test_every_layer_of_a_run_is_read(name, policy_of, tmp_path):
    family = tiny_models.FAMILIES[name]
    model = family.build()
    vae = tiny_models.vae(model.model.latent_format.latent_channels)
    policy = policy_of(model, vae, alpha=2.0, width=family.size, height=family.size)
    tiny_models.train_a_little(policy)
    policy.export(tmp_path / "run.safetensors", {})
    pipeline = bare_pipeline(name)
    pipeline.load_lora_weights(str(tmp_path / "run.safetensors"))
    here, there = list(layers(policy.module)), list(layers(pipeline.transformer))
    print(f"\nfamily {name}: {len(here)} layers in ComfyUI, {len(there)} in diffusers")
    assert len(here) == len(by_down(policy.module)) == len(policy.adapted_layers)
    assert by_down(policy.module) == by_down(pipeline.transformer)


def test_lumina2_at_its_own_width(comfy, room):
    """Of rank 1, under the names that a run's file has: all that diffusers makes of them are layers of its model."""
    model = tiny_models.lumina2()
    names = room("nodes.model.lora_names").FileNames(model.model)
    assert names.rename(
        {
            "diffusion_model.layers.0.attention.qkv.lora_A.weight": torch.ones(1, 64),
            "diffusion_model.layers.0.attention.qkv.lora_B.weight": torch.ones(128, 1),
        }
    ).keys() == {
        "diffusion_model.layers.0.attention.qkv.lora_A.weight",
        "diffusion_model.layers.0.attention.qkv.lora_B.weight",
    }
    hidden = 9216
    sizes = {
        "attention.qkv": (2304, 3840), "attention.out": (2304, 2304), "feed_forward.w1": (2304, hidden),
        "feed_forward.w2": (hidden, 2304), "feed_forward.w3": (2304, hidden), "adaLN_modulation.1": (1024, 9216),
    }  # fmt: skip
    trained = {name.split(".", 2)[2] for name in names.layers if name.startswith("layers.0.") and "norm" not in name}
    assert trained == sizes.keys()
    tensors = {}
    for name, (inputs, outputs) in sizes.items():
        tensors[f"diffusion_model.layers.0.{name}.lora_A.weight"] = torch.zeros(1, inputs)
        tensors[f"diffusion_model.layers.0.{name}.lora_B.weight"] = torch.zeros(outputs, 1)
    with torch.device("meta"):
        transformer = diffusers.Lumina2Transformer2DModel(num_layers=1, num_refiner_layers=1)
    linear = {name: each for name, each in transformer.named_modules() if isinstance(each, torch.nn.Linear)}
    converted = diffusers.Lumina2Pipeline.lora_state_dict(tensors)
    assert len(converted) == 2 * (len(sizes) + 2)
    for name, tensor in converted.items():
        layer = linear[name.removeprefix("transformer.").rsplit(".lora_", 1)[0]]
        assert tensor.shape == ((1, layer.in_features) if "lora_A" in name else (layer.out_features, 1)), name
