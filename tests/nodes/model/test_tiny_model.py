"""The policy over the embedded model: real weights, real text encoder, real VAE, loaded by ComfyUI's own loaders."""

import pytest
import torch

from tests.nodes import tiny_models
from tests.nodes.model import stock

PROMPTS = ["a red circle on a white background", "two blue squares on a white background"]
STEPS = 25


@pytest.fixture(scope="module")
def embedded(room):
    """(MODEL, VAE, encoded prompts) of the embedded model."""
    tiny, text = room("nodes.tiny.tiny_model"), room("nodes.tiny.text_encoder")
    clip = text.load_clip(tiny.TEXT_ENCODER)
    encoded = room("nodes.model.conditioning").encode_prompts(clip, [*PROMPTS, ""])
    return tiny.load_model(), tiny.load_vae(), encoded


@pytest.fixture
def tiny_policy(room, embedded):
    def make(**changes):
        adapter = room("mixgrpo_engine.config").AdapterConfig(rank=8)
        policy = room("nodes.model.policy").ComfyPolicy
        return policy(*embedded, width=64, height=64, adapter=adapter, seed=1, **changes)

    return make


@pytest.mark.parametrize("cfg", [1.0, 4.0])
def test_images_are_those_of_stock_ksampler(embedded, tiny_policy, cfg):
    model, vae, encoded = embedded
    policy = tiny_policy(cfg=cfg)
    noise, sigmas = policy.noise([1, 2]), policy.sigmas(STEPS)
    condition = policy.condition(PROMPTS)
    latents = noise
    with torch.no_grad():
        for sigma, sigma_next in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True):
            latents = latents - (sigma - sigma_next) * policy.module(latents, sigma, condition)
    images = policy.decode(latents)
    assert images.shape == (2, 64, 64, 3)
    for row, prompt in enumerate(PROMPTS):
        expected, _ = stock.sample(model, noise[row : row + 1], encoded[prompt], encoded[""], cfg, steps=STEPS)
        assert (latents[row : row + 1] - expected).abs().max() < 1e-4
        with torch.no_grad():
            picture = vae.decode(model.model.process_latent_out(expected))
        assert (images[row : row + 1] - picture).abs().max() < 1e-3
    # Not a grey nothing: trained weights draw something.
    assert float(images.std()) > 0.05


def test_a_trained_lora_gives_the_same_images_in_stock_sampling(embedded, tiny_policy, tmp_path, caplog):
    model, _, encoded = embedded
    policy = tiny_policy()
    tiny_models.train_a_little(policy, size=0.02)
    patched = stock.with_lora_of(policy, model, tmp_path / "run.safetensors", caplog)
    noise = policy.noise([1])
    loaded = stock.one_velocity(patched, noise, 0.9, encoded[PROMPTS[0]], encoded[""])
    original = stock.one_velocity(model, noise, 0.9, encoded[PROMPTS[0]], encoded[""])
    with torch.no_grad():
        trained = policy.module(noise, 0.9, policy.condition(PROMPTS[:1]))
    effect, difference = float((trained - original).abs().max()), float((trained - loaded).abs().max())
    print(f"stock loader against training: {difference:.1e}; the LoRA's effect: {effect:.1e}")
    assert effect > 0.05
    assert difference < 2e-5


def test_checkpointing_changes_no_gradient(tiny_policy):
    found = []
    for checkpointing in (False, True):
        policy = tiny_policy(gradient_checkpointing=checkpointing, cfg=2.0)
        policy.module(policy.noise([1, 2]), 0.9, policy.condition(PROMPTS)).square().mean().backward()
        found.append(torch.cat([tensor.grad.flatten() for tensor in policy.adapter_state().values()]))
    plain, checkpointed = found
    assert plain.norm() > 0
    assert (plain - checkpointed).norm() <= 1e-6 * plain.norm()
