"""The dtype in which a MODEL is trained: gradients must be those of float32, at the scale that real trainings have."""

import math

import pytest
import torch

from tests.nodes import tiny_models
from tests.nodes.tiny_models import FAMILIES

SIGMA = 0.875


def loss_scale():
    """d loss / d velocity of one latent value, for a loss that is a mean: the card template sd35_medium_16gb.

    512 px, 24 images of 3 prompts, 4 updates, 4 steps, Flow-SDE with eta 0.7 from sigma 0.9 to 0.85.
    """
    values, terms, eta, sigma_next = 16 * 64 * 64, 18 * 4, 0.7, 0.85
    g2 = eta**2 * SIGMA / (1 - SIGMA)
    slope = (1 + g2 * (1 - SIGMA) / (2 * SIGMA)) * (SIGMA - sigma_next)
    return slope / (math.sqrt(g2 * (SIGMA - sigma_next)) * values * terms)


@pytest.fixture(params=FAMILIES)
def family(request, comfy):
    return FAMILIES[request.param]


@pytest.fixture
def encoded(room, family):
    return room("nodes.model.conditioning").Encoded({name: family.prompt(seed) for name, seed in (("red", 1), ("", 4))})


@pytest.fixture
def policy(policy_of, family):
    """`policy(model)`: with a LoRA that has learned something, at cfg 3."""

    def make(model):
        vae = tiny_models.vae(model.model.latent_format.latent_channels)
        # A guidance of 3.5 becomes 3504 instead of 3500 in bfloat16, in stock sampling as here; 4 stays what it is.
        guided = getattr(getattr(model.model.diffusion_model, "params", None), "guidance_embed", False)
        guidance = 4.0 if guided else 0.0
        made = policy_of(model, vae=vae, width=family.size, height=family.size, cfg=1.0, guidance=guidance)
        tiny_models.train_a_little(made)
        return made

    return make


def gradients(policy):
    policy.module.zero_grad()
    latents, condition = policy.noise(range(8)), policy.condition(["red"] * 8)
    drawn = torch.randn(latents.shape, generator=torch.Generator().manual_seed(5))
    (policy.module(latents, SIGMA, condition) * drawn * loss_scale()).sum().backward()
    # Qwen-Image's last block has layers whose output nothing uses.
    return {name: tensor.grad.clone() for name, tensor in policy.adapter_state().items() if tensor.grad is not None}


def half(family):
    """The MODEL in float16, as ComfyUI loads it on a GPU, and one with the same weights in float32."""
    model, exact = family.build(torch.float16), family.build(torch.float32)
    exact.model.load_state_dict({name: tensor.float() for name, tensor in model.model.state_dict().items()})
    return model, exact


def test_a_model_in_float16_is_trained_in_bfloat16(policy, family):
    model, exact = half(family)
    trained, expected = policy(model), gradients(policy(exact))
    assert trained.dtype == torch.bfloat16 and model.model.get_dtype() == torch.float16
    found = gradients(trained)
    print(f"bfloat16: cosine {cosine(found, expected):.5f}")
    # HiDream's gate picks two experts for each token by rounded scores: some tokens get others, in stock sampling too.
    assert cosine(found, expected) >= (0.995 if family is FAMILIES["hidream"] else 0.999)
    assert all(tensor.dtype == torch.float32 for tensor in trained.adapter_state().values())


def test_where_there_is_only_float16_gradients_are_scaled(room, policy, family, monkeypatch):
    monkeypatch.setattr(room("nodes.model.precision"), "_has_bfloat16", lambda device: False)
    model, exact = half(family)
    trained, expected = policy(model), gradients(policy(exact))
    assert trained.dtype == torch.float16
    found = gradients(trained)
    print(f"float16: cosine {cosine(found, expected):.5f}")
    assert cosine(found, expected) >= 0.999


def cosine(one, other):
    flat = [torch.cat([tensor.flatten().double() for tensor in gradients.values()]) for gradients in (one, other)]
    return float(torch.nn.functional.cosine_similarity(*flat, dim=0))
