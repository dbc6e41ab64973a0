"""The policy's LoRA beside the MODEL that others share: nothing leaks, and stock loaders read the file."""

import logging

import pytest
import torch

from tests.nodes import tiny_models
from tests.nodes.model import stock


def snapshot(model):
    return {name: tensor.clone() for name, tensor in model.model.state_dict().items()}


def assert_untouched(model, before):
    after = model.model.state_dict()
    assert list(after) == list(before)
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor), name


def train_steps(policy, count=2):
    parameters = [parameter for parameter in policy.module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-2)
    x, condition = policy.noise([1, 2]), policy.condition(["red", "long"])
    for _ in range(count):
        policy.module(x, 0.7, condition).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def test_the_shared_model_is_untouched_by_training(build, policy_of, encoded):
    model = build()
    before, options = snapshot(model), dict(model.model_options["transformer_options"])
    noise = torch.randn(1, 16, 16, 16, generator=torch.Generator().manual_seed(1))
    image, _ = stock.sample(model, noise, encoded["red"], encoded[""], 3.0)
    policy = policy_of(model, cfg=3.0, gradient_checkpointing=True)
    train_steps(policy)
    assert_untouched(model, before)
    assert model.model_options["transformer_options"] == options
    again, _ = stock.sample(model, noise, encoded["red"], encoded[""], 3.0)
    assert torch.equal(image, again)
    # And the other way round: sampling with the shared model changes nothing for the policy.
    state = {name: tensor.clone() for name, tensor in policy.module.state_dict().items()}
    stock.sample(model, noise, encoded["red"], encoded[""], 3.0)
    assert all(torch.equal(tensor, state[name]) for name, tensor in policy.module.state_dict().items())


def test_frozen_weights_are_not_held_twice(build, policy_of):
    model = build()
    policy = policy_of(model)
    shared = {parameter.data_ptr() for parameter in model.model.parameters()}
    own = {parameter.data_ptr() for parameter in policy.module.parameters() if not parameter.requires_grad}
    assert own == shared


def test_only_the_adapter_is_trainable(build, policy_of):
    policy = policy_of(build())
    trainable = {id(parameter) for parameter in policy.module.parameters() if parameter.requires_grad}
    assert trainable == {id(tensor) for tensor in policy.adapter_state().values()}
    assert len(trainable) == 2 * len(policy.adapted_layers) > 0


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_a_new_policy_and_base_are_the_original_model_bit_for_bit(build, policy_of, cfg):
    model = build()
    x = torch.randn(2, 16, 16, 16, generator=torch.Generator().manual_seed(1))
    fresh = policy_of(model, cfg=cfg)
    with torch.no_grad():
        original = fresh.module(x, 0.6, fresh.condition(["red", "long"]))
    policy = policy_of(model, cfg=cfg)
    tiny_models.train_a_little(policy)
    condition = policy.condition(["red", "long"])
    with torch.no_grad():
        with policy.base():
            base = policy.module(x, 0.6, condition)
        tuned = policy.module(x, 0.6, condition)
    assert torch.equal(base, original)
    assert (tuned - original).abs().max() > 1e-2


def test_base_is_the_shared_model_itself_bit_for_bit(build, policy_of, encoded):
    model = build()
    policy = policy_of(model)
    tiny_models.train_a_little(policy)
    x = policy.noise([1])
    inputs = policy.condition(["red"]).plan()[0][0].inputs
    with torch.no_grad():
        with policy.base():
            base = policy.module(x, 0.6, policy.condition(["red"]))
        same_attention = {"transformer_options": dict(policy.module.options)}
        denoised = model.model.apply_model(x, torch.tensor([0.6]), **inputs, **same_attention)
    # The shared model gives x - sigma * v; rounding v and then this must reproduce it exactly.
    assert torch.equal(x - base * torch.tensor(0.6), denoised)


@pytest.mark.parametrize("alpha", [0.0, 2.0])
def test_the_exported_lora_in_a_stock_loader_is_the_trained_model(
    comfy, build, policy_of, encoded, tmp_path, caplog, record_property, alpha
):
    import comfy.lora
    import comfy.utils

    model = build()
    policy = policy_of(model, alpha=alpha)
    tiny_models.train_a_little(policy)
    path = tmp_path / "run.safetensors"
    policy.export(path, {"run": "test"})
    tensors = comfy.utils.load_torch_file(str(path), safe_load=True)
    with caplog.at_level(logging.WARNING):
        patched, _ = comfy.sd.load_lora_for_models(model, None, tensors, 1.0, 0.0)
    assert "not loaded" not in caplog.text.lower()
    assert len(patched.patches) == len(policy.adapted_layers)
    x = policy.noise([3])
    loaded = stock.one_velocity(patched, x, 0.6, encoded["red"], encoded[""])
    original = stock.one_velocity(model, x, 0.6, encoded["red"], encoded[""])
    with torch.no_grad():
        trained = policy.module(x, 0.6, policy.condition(["red"]))
    difference = float((loaded - trained).abs().max())
    record_property("max_abs_difference", difference)
    print(f"exported LoRA, stock loader against training: {difference:.1e} of {float(trained.abs().max()):.2f}")
    assert difference < 2e-5 * float(trained.abs().max())
    assert (trained - original).abs().max() > 1e-2


def test_a_lora_upstream_is_part_of_the_base(comfy, build, policy_of, encoded, tmp_path):
    import comfy.utils

    model = build()
    first = policy_of(model)
    tiny_models.train_a_little(first, seed=1)
    first.export(tmp_path / "first.safetensors", {})
    before = snapshot(model)
    tensors = comfy.utils.load_torch_file(str(tmp_path / "first.safetensors"), safe_load=True)
    upstream, _ = comfy.sd.load_lora_for_models(model, None, tensors, 0.8, 0.0)
    x = first.noise([3])
    with_lora = stock.one_velocity(upstream, x, 0.6, encoded["red"], encoded[""])
    without = stock.one_velocity(model, x, 0.6, encoded["red"], encoded[""])
    policy = policy_of(upstream)
    with torch.no_grad():
        base = policy.module(x, 0.6, policy.condition(["red"]))
    assert (base - with_lora).abs().max() < 2e-5 * with_lora.abs().max()
    assert (base - without).abs().max() > 1e-2
    # The shared weights are back, and using them (without that LoRA) doesn't reach the policy's.
    assert_untouched(model, before)
    stock.one_velocity(model, x, 0.6, encoded["red"], encoded[""])
    with torch.no_grad():
        assert torch.equal(policy.module(x, 0.6, policy.condition(["red"])), base)


def test_adapter_state_round_trips_between_policies(build, policy_of):
    model = build()
    policy, other = policy_of(model), policy_of(model, seed=4)
    tiny_models.train_a_little(policy)
    x, prompts = policy.noise([3]), ["red"]
    with torch.no_grad():
        expected = policy.module(x, 0.6, policy.condition(prompts))
        assert not torch.equal(other.module(x, 0.6, other.condition(prompts)), expected)
        other.load_adapter_state({name: tensor.clone() for name, tensor in policy.adapter_state().items()})
        assert torch.equal(other.module(x, 0.6, other.condition(prompts)), expected)


def test_the_seed_decides_the_adapters_start(build, policy_of):
    model = build()
    same, again, other = (
        torch.cat([t.flatten() for t in p.adapter_state().values()])
        for p in (policy_of(model), policy_of(model), policy_of(model, seed=4))
    )
    assert torch.equal(same, again)
    assert not torch.equal(same, other)
