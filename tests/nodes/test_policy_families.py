"""More families than SD3 and FLUX, each through its own model code: sampling, gradients, LoRA file."""

import pytest
import torch

from tests.nodes import stock, tiny_models
from tests.nodes.finite_differences import SIGMA, gradients, in_float64, random_weights, slopes


@pytest.fixture(params=["auraflow", "lumina2", "qwen_image"])
def family(request, comfy):
    return getattr(tiny_models, request.param)


@pytest.fixture
def policy_for(policy_of):
    def make(model, **changes):
        channels = model.model.latent_format.latent_channels
        return policy_of(model, **{"vae": tiny_models.vae(channels), **changes})

    return make


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_velocity_is_stock_ksamplers_at_every_step(family, policy_for, encoded, cfg):
    model = family()
    policy = policy_for(model, cfg=cfg)
    sigmas = policy.sigmas(stock.STEPS)
    # The same sigmas to the last bit: AuraFlow's time embedding magnifies a difference a thousand times.
    _, trace = stock.sample(model, policy.noise([11, 12]), encoded["red"], encoded[""], cfg, sigmas=sigmas.clone())
    condition = policy.condition(["red", "red"])
    assert len(trace) == stock.STEPS
    for sigma, (x, denoised) in zip(sigmas.tolist(), trace, strict=False):
        with torch.no_grad():
            velocity = policy.module(x, sigma, condition)
        assert (x - sigma * velocity - denoised).abs().max() < 1e-5 * denoised.abs().max()


def test_mixed_prompts_in_a_batch_equal_them_one_by_one(family, policy_for):
    policy = policy_for(family(), cfg=3.0)
    prompts = ["long", "red", "green"]
    x = policy.noise(range(3))
    with torch.no_grad():
        velocity = policy.module(x, SIGMA, policy.condition(prompts))
        for row, prompt in enumerate(prompts):
            alone = policy.module(x[row : row + 1], SIGMA, policy.condition([prompt]))
            assert (velocity[row : row + 1] - alone).abs().max() < 2e-5 * alone.abs().max()


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_every_adapter_gradient_agrees_with_finite_differences(family, policy_for, cfg, checkpointing):
    policy = policy_for(family(dtype=torch.float64), rank=2, cfg=cfg, gradient_checkpointing=checkpointing)
    outputs = in_float64(policy)
    tiny_models.train_a_little(policy)
    weights = random_weights(policy)
    _, found = gradients(policy, ["red"], weights)
    unused = 0
    for name, slope, norm in slopes(policy, outputs, weights, cfg, found):
        assert slope == pytest.approx(norm, rel=1e-5, abs=1e-9), name
        unused += norm == 0
    # Qwen-Image computes the text of its last block and drops it: a LoRA there does nothing.
    assert unused < len(found) / 2


def test_checkpointing_changes_no_gradient(family, policy_for):
    found = []
    for checkpointing in (False, True):
        policy = policy_for(family(), gradient_checkpointing=checkpointing, cfg=2.0)
        tiny_models.train_a_little(policy)
        policy.module(policy.noise([1, 2]), SIGMA, policy.condition(["red", "long"])).square().mean().backward()
        grads = [tensor.grad for tensor in policy.adapter_state().values() if tensor.grad is not None]
        found.append(torch.cat([grad.flatten() for grad in grads]))
    plain, checkpointed = found
    assert plain.norm() > 0
    assert (plain - checkpointed).norm() <= 1e-6 * plain.norm()


def test_the_exported_lora_in_a_stock_loader_is_the_trained_model(family, policy_for, encoded, tmp_path, caplog):
    model = family()
    policy = policy_for(model)
    tiny_models.train_a_little(policy)
    patched = stock.with_lora_of(policy, model, tmp_path / "run.safetensors", caplog)
    x = policy.noise([3])
    loaded = stock.one_velocity(patched, x, 0.6, encoded["red"], encoded[""])
    with torch.no_grad():
        trained = policy.module(x, 0.6, policy.condition(["red"]))
        with policy.base():
            original = policy.module(x, 0.6, policy.condition(["red"]))
    assert (loaded - trained).abs().max() < 2e-5 * trained.abs().max()
    assert (trained - original).abs().max() > 1e-2
