"""The policy's velocity and sampling against ComfyUI's own."""

import pytest
import torch

from tests.nodes.model import stock


def euler(policy, noise, condition, sigmas):
    latents = noise
    with torch.no_grad():
        for sigma, sigma_next in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True):
            latents = latents - (sigma - sigma_next) * policy.module(latents, sigma, condition)
    return latents


@pytest.mark.parametrize("cfg", [1.0, 4.5])
def test_an_euler_rollout_is_stock_ksampler(build, policy_of, encoded, cfg):
    model = build()
    policy = policy_of(model, cfg=cfg)
    noise = policy.noise([11, 12])
    expected, _ = stock.sample(model, noise, encoded["red"], encoded[""], cfg)
    ours = euler(policy, noise, policy.condition(["red", "red"]), policy.sigmas(stock.STEPS))
    assert (ours - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("cfg", [1.0, 4.5])
def test_velocity_is_stock_x_minus_denoised_over_sigma(build, policy_of, encoded, cfg):
    model = build()
    policy = policy_of(model, cfg=cfg)
    x = policy.noise([5])
    for sigma in (1.0, 0.6, 0.2):
        expected = stock.one_velocity(model, x, sigma, encoded["long"], encoded[""], cfg)
        with torch.no_grad():
            velocity = policy.module(x, sigma, policy.condition(["long"]))
        assert velocity.dtype == torch.float32 and velocity.shape == x.shape
        assert (velocity - expected).abs().max() < 2e-5 * expected.abs().max()


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_mixed_prompts_in_a_batch_equal_them_one_by_one(build, policy_of, cfg):
    policy = policy_of(build(), cfg=cfg)
    prompts = ["long", "red", "green", "long", "red"]
    x = policy.noise(range(5))
    together = policy.condition(prompts)
    with torch.no_grad():
        velocity = policy.module(x, 0.7, together)
        for row, prompt in enumerate(prompts):
            alone = policy.module(x[row : row + 1], 0.7, policy.condition([prompt]))
            assert (velocity[row : row + 1] - alone).abs().max() < 2e-5 * alone.abs().max()


def test_prompts_matter(build, policy_of):
    policy = policy_of(build())
    x = policy.noise([1, 1])
    with torch.no_grad():
        red, green = policy.module(x, 0.7, policy.condition(["red", "green"]))
    assert (red - green).abs().max() > 1e-2


def test_select_picks_and_repeats_rows(build, policy_of):
    policy = policy_of(build(), cfg=2.0)
    condition = policy.condition(["red", "long"]).select([1, 0, 0])
    assert len(condition) == 3
    x = policy.noise([4, 5, 6])
    with torch.no_grad():
        velocity = policy.module(x, 0.4, condition)
        expected = policy.module(x, 0.4, policy.condition(["long", "red", "red"]))
    assert torch.equal(velocity, expected)


def test_a_call_leaves_latents_and_prompts_as_they_were(build, policy_of, encoded):
    policy = policy_of(build(), cfg=2.0)
    x, condition = policy.noise([1, 2]), policy.condition(["red", "green"])
    before = x.clone()
    with torch.no_grad():
        first = policy.module(x, 0.5, condition)
        second = policy.module(x, 0.5, condition)
    assert torch.equal(x, before)
    assert torch.equal(first, second)


def test_the_wrong_number_of_prompts_is_refused(build, policy_of):
    policy = policy_of(build())
    with pytest.raises(ValueError, match="2 latents came with 1 prompts"):
        policy.module(policy.noise([1, 2]), 0.5, policy.condition(["red"]))


def test_a_prompt_that_was_not_encoded_is_named(build, policy_of):
    with pytest.raises(KeyError, match="'blue' was not encoded"):
        policy_of(build()).condition(["blue"])


def test_sigmas_run_from_exactly_one_to_exactly_zero(comfy, build, policy_of):
    from comfy_extras.nodes_model_advanced import ModelSamplingAuraFlow, ModelSamplingFlux, ModelSamplingSD3

    plain = build()
    (flux,) = ModelSamplingFlux().patch(plain, 1.15, 0.5, 1024, 1024)
    (sd3,) = ModelSamplingSD3().patch(plain, 2.0)
    (aura,) = ModelSamplingAuraFlow().patch_aura(plain, 1.73)
    for model in (plain, flux, sd3, aura):
        sigmas = policy_of(model).sigmas(20)
        assert sigmas.dtype == torch.float32 and sigmas.shape == (21,)
        assert sigmas[0] == 1 and sigmas[-1] == 0
        assert (sigmas.diff() < 0).all()


def test_sigmas_are_scheduler_simple(comfy, build, policy_of):
    model = build()
    sampling = model.get_model_object("model_sampling")
    expected = comfy.samplers.calculate_sigmas(sampling, "simple", 25)
    assert torch.allclose(policy_of(model).sigmas(25), expected, atol=1e-6)


def test_a_shift_overrides_the_models_own(build, policy_of):
    policy = policy_of(build())
    assert torch.allclose(policy.sigmas(4, shift=3.0), torch.tensor([1, 0.9, 0.75, 0.5, 0]))


def test_a_shift_node_upstream_is_the_models_own_shift(build, policy_of):
    from comfy_extras.nodes_model_advanced import ModelSamplingSD3

    (model,) = ModelSamplingSD3().patch(build(), 5.0)
    assert float(policy_of(model).sigmas(2)[1]) == pytest.approx(5 / 6)


def test_a_rows_noise_depends_on_its_seed_alone(build, policy_of):
    policy = policy_of(build())
    torch.manual_seed(0)
    noise = policy.noise([7, 8, 9])
    torch.manual_seed(1)
    assert noise.shape == (3, 16, 16, 16) and noise.dtype == torch.float32
    assert torch.equal(policy.noise([9]), noise[2:])
    assert torch.equal(policy.noise([8, 9, 7]), noise[[1, 2, 0]])
    assert not torch.equal(noise[0], noise[1])
    assert abs(float(noise.mean())) < 0.05 and abs(float(noise.std()) - 1) < 0.05


def test_decode_is_stock_vae_decode(build, policy_of, vae):
    model = build()
    policy = policy_of(model)
    latents = policy.noise([1, 2]).requires_grad_(True)
    images = policy.decode(latents)
    with torch.no_grad():
        expected = vae.decode(model.model.process_latent_out(latents))
    assert images.shape == (2, 128, 128, 3) and images.dtype == torch.float32
    assert images.device.type == "cpu" and not images.requires_grad
    assert float(images.min()) >= 0 and float(images.max()) <= 1 and float(images.std()) > 0.01
    assert torch.equal(images, expected)
