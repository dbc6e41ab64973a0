"""What stock loaders and patch nodes put before Train: it is in the policy as it is in stock sampling."""

import logging

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.nodes import tiny_models
from tests.nodes.model import stock

PROMPT = "a red circle on a white background"


@pytest.fixture(scope="module")
def folders(comfy, room, tmp_path_factory):
    """Model folders with the embedded denoiser as a diffusion model, and as a checkpoint together with a VAE."""
    import folder_paths

    root = tmp_path_factory.mktemp("models")
    weights = load_file(room("nodes.tiny.tiny_model").DENOISER)
    save_file(weights, root / "tiny.safetensors")
    parts = {f"model.diffusion_model.{name}": tensor for name, tensor in weights.items()}
    vae = tiny_models.vae(16).first_stage_model.state_dict()
    parts |= {f"first_stage_model.{name}": tensor.contiguous() for name, tensor in vae.items()}
    save_file(parts, root / "whole.safetensors")
    for kind in ("diffusion_models", "checkpoints", "loras"):
        folder_paths.add_model_folder_path(kind, str(root))
    return root


@pytest.fixture(scope="module")
def encoded(room):
    """Overrides the random prompts: this model has a text encoder of its own."""
    clip = room("nodes.tiny.tiny_model").MixGRPOTinyModel.execute().result[1]
    return room("nodes.model.conditioning").encode_prompts(clip, [PROMPT, ""])


@pytest.fixture
def policy_for(policy_of):
    return lambda model, vae, **changes: policy_of(model, vae, width=64, height=64, **changes)


def velocities(policy, model, encoded, cfg=3.0):
    """(stock's, the policy's) at one place."""
    x = policy.noise([5])
    with torch.no_grad():
        own = policy.module(x, 0.6, policy.condition([PROMPT]))
    return stock.one_velocity(model, x, 0.6, encoded[PROMPT], encoded[""], cfg), own


def lora_file(policy_for, model, vae, path):
    policy = policy_for(model, vae)
    tiny_models.train_a_little(policy, seed=1)
    policy.export(path, {})


@pytest.mark.parametrize("weight_dtype", ["default", "fp8_e4m3fn"])
def test_a_lora_and_a_shift_on_a_loaded_model_are_in_the_policy(folders, policy_for, vae, encoded, weight_dtype):
    import nodes
    from comfy_extras.nodes_model_advanced import ModelSamplingSD3

    (plain,) = nodes.UNETLoader().load_unet("tiny.safetensors", weight_dtype)
    lora_file(policy_for, plain, vae, folders / "upstream.safetensors")
    (model,) = nodes.LoraLoaderModelOnly().load_lora_model_only(plain, "upstream.safetensors", 0.7)
    (model,) = ModelSamplingSD3().patch(model, 2.0)
    policy = policy_for(model, vae, cfg=3.0)
    wanted = torch.float8_e4m3fn if weight_dtype == "fp8_e4m3fn" else next(plain.model.parameters()).dtype
    network = policy.module.model.diffusion_model
    bases = {network.get_submodule(layer).base_layer.weight.dtype for layer in policy.adapted_layers}
    assert bases == {wanted}
    assert policy.shift() == pytest.approx(2.0)
    expected, own = velocities(policy, model, encoded)
    assert (own - expected).abs().max() < 2e-5 * expected.abs().max()
    without, _ = velocities(policy, plain, encoded)
    assert (without - expected).abs().max() > 1e-2


@pytest.mark.parametrize("weight_dtype", ["default", "fp8_e4m3fn"])
def test_a_lora_trained_on_a_loaded_model_is_the_trained_model_in_stock_loaders(
    folders, policy_for, vae, encoded, weight_dtype, caplog
):
    import nodes

    (model,) = nodes.UNETLoader().load_unet("tiny.safetensors", weight_dtype)
    policy = policy_for(model, vae, cfg=3.0)
    lora_name = f"trained_{weight_dtype}.safetensors"
    tiny_models.train_a_little(policy)
    policy.export(folders / lora_name, {})
    if weight_dtype == "fp8_e4m3fn":
        # A stock loader adds the LoRA to the weights and rounds the sum to fp8 again, whatever it was trained by.
        # In the same weights held in float32 it doesn't.
        weights = load_file(folders / "tiny.safetensors")
        rounded = {name: tensor.to(torch.float8_e4m3fn).float() for name, tensor in weights.items()}
        save_file(rounded, folders / "rounded.safetensors")
        (model,) = nodes.UNETLoader().load_unet("rounded.safetensors", "default")
    with caplog.at_level(logging.WARNING):
        (tuned,) = nodes.LoraLoaderModelOnly().load_lora_model_only(model, lora_name, 1.0)
    assert "not loaded" not in caplog.text.lower()
    loaded, trained = velocities(policy, tuned, encoded)
    without, _ = velocities(policy, model, encoded)
    difference, largest = float((loaded - trained).abs().max()), float(trained.abs().max())
    print(f"\n{weight_dtype}: stock-loaded LoRA against training {difference:.1e} of {largest:.1f}")
    assert difference < 2e-5 * largest
    assert (trained - without).abs().max() > 1e-2


def test_a_checkpoint_loader_gives_model_and_vae_at_once(folders, policy_for, encoded):
    import nodes

    model, _clip, vae = nodes.CheckpointLoaderSimple().load_checkpoint("whole.safetensors")
    policy = policy_for(model, vae, cfg=3.0)
    expected, own = velocities(policy, model, encoded)
    assert (own - expected).abs().max() < 2e-5 * expected.abs().max()
    assert policy.decode(policy.noise([1])).shape == (1, 64, 64, 3)
