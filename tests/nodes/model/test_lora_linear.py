"""The LoRA's layer against peft's own: the same numbers, less kept and moved. `pytest -s` prints what is saved."""

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from benchmarks import full_size
from tests.nodes import tiny_models

SIGMA = 0.7
QUANTISED = {"bf16": torch.bfloat16, "fp8": torch.float8_e4m3fn}


@pytest.fixture
def layer(room):
    return room("mixgrpo_engine.lora_linear").LeanLinear


@pytest.fixture
def as_peft(layer, monkeypatch):
    """`as_peft()`: from now on the LoRA's layers compute as peft's do."""
    from peft.tuners.lora import Linear

    return lambda: monkeypatch.setattr(layer, "forward", Linear.forward)


def trained(policy_of, model, **changes):
    policy = policy_of(model, **changes)
    tiny_models.train_a_little(policy)
    return policy


def outcome(policy, images=3):
    """The velocity, and the gradients of the LoRA by name, of some images."""
    policy.module.zero_grad()
    velocity = policy.module(policy.noise(range(images)), SIGMA, policy.condition(["red"] * images))
    velocity.square().mean().backward()
    return velocity.detach(), {name: tensor.grad.clone() for name, tensor in policy.adapter_state().items()}


def saved_bytes(policy, images):
    """Bytes that a model call keeps for its backward pass, each storage once, parameters not counted."""
    latents, condition = policy.noise(range(images)), policy.condition(["red"] * images)
    condition.plan()
    ignored = {parameter.untyped_storage()._cdata for parameter in policy.module.parameters()}
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage()._cdata] = tensor  # held, so that no other one takes its place
        return tensor

    policy.module(latents, SIGMA, condition).sum().backward()  # blocks are verified at the first call
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        velocity = policy.module(latents, SIGMA, condition)
    del velocity
    return sum(tensor.untyped_storage().nbytes() for place, tensor in kept.items() if place not in ignored)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_in_float32_it_is_pefts_own_layer(build, policy_of, as_peft, checkpointing):
    policy = trained(policy_of, build(), gradient_checkpointing=checkpointing)
    velocity, gradients = outcome(policy)
    as_peft()
    expected, expected_gradients = outcome(policy)
    assert torch.allclose(velocity, expected, atol=1e-6, rtol=1e-6)
    for name, gradient in expected_gradients.items():
        assert (gradients[name] - gradient).abs().max() <= 2e-6 * gradient.abs().max(), name


@pytest.mark.parametrize("kind", QUANTISED)
def test_gradients_of_a_low_precision_base_against_float64(layer, comfy, kind):
    """One layer, its output and all gradients, no further from the exact ones than the base layer's own rounding."""
    import comfy.ops
    from peft import LoraConfig

    generator = torch.Generator().manual_seed(1)

    def drawn(*shape):
        return torch.randn(shape, generator=generator)

    base = comfy.ops.manual_cast.Linear(96, 64, dtype=QUANTISED[kind]).requires_grad_(False)
    with torch.no_grad():
        base.weight.copy_(drawn(64, 96) / 10)
        base.bias.copy_(drawn(64) / 10)
    lean = layer(base, "default", config=LoraConfig(r=8, lora_alpha=16), r=8, lora_alpha=16)
    lean.lora_A.float(), lean.lora_B.float()
    a, b = lean.lora_A["default"].weight, lean.lora_B["default"].weight
    with torch.no_grad():
        a.copy_(drawn(8, 96) / 10)
        b.copy_(drawn(64, 8) / 10)
    x, weights = drawn(2, 40, 96).bfloat16().requires_grad_(), drawn(2, 40, 64)
    output = lean(x)
    (output.float() * weights).sum().backward()
    found = output.detach(), x.grad, a.grad, b.grad
    assert output.dtype == x.grad.dtype == torch.bfloat16 and a.grad.dtype == b.grad.dtype == torch.float32

    exact = [tensor.detach().double().requires_grad_() for tensor in (x, a, b)]
    plain = nn.functional.linear(exact[0], base.weight.double(), base.bias.double())
    expected = plain + 2 * exact[0] @ exact[1].T @ exact[2].T
    (expected * weights).sum().backward()
    for name, mine, right in zip("yxab", found, (expected, *(each.grad for each in exact)), strict=True):
        error = float((mine.double() - right.detach()).norm() / right.detach().norm())
        print(f"{kind} {name}: relative error {error:.1e}")
        assert error < 5e-3, name  # half a unit in bfloat16's last place is 2e-3


def test_a_fifth_of_what_a_bfloat16_base_keeps_with_pefts_is_gone(comfy, room, as_peft):
    """A middle-sized FLUX: what an image adds, and what a call adds once."""
    encoded = room("nodes.model.conditioning").Encoded({"red": full_size.middle_sized_prompt()})
    model, adapter = (
        full_size.middle_sized("middle flux", torch.bfloat16),
        room("mixgrpo_engine.config").AdapterConfig(16),
    )
    policy = room("nodes.model.policy").ComfyPolicy(
        model, full_size.vae(), encoded, width=128, height=128, adapter=adapter, seed=1
    )
    tiny_models.train_a_little(policy)
    one, two = saved_bytes(policy, 1), saved_bytes(policy, 2)
    as_peft()
    peft_one, peft_two = saved_bytes(policy, 1), saved_bytes(policy, 2)
    print(f"saved an image: {(two - one) / 1e6:.2f} MB, by peft {(peft_two - peft_one) / 1e6:.2f} MB")
    assert two - one < 0.85 * (peft_two - peft_one)
    # Once a call: the LoRA itself in bfloat16.
    assert 2 * one - two <= 2 * sum(tensor.numel() for tensor in policy.adapter_state().values()) * 1.1


def test_no_cast_of_an_fp8_weight_is_kept_and_gradients_stay_bit_equal(build, policy_of, room, monkeypatch):
    policy = trained(policy_of, build(torch.float8_e4m3fn, torch.float32))
    velocity, gradients = outcome(policy)
    kept = saved_bytes(policy, 1)
    monkeypatch.setattr(room("mixgrpo_engine.lora_linear"), "output_of_frozen", lambda layer, x: layer(x))
    expected, expected_gradients = outcome(policy)
    assert torch.equal(velocity, expected)
    assert all(torch.equal(gradients[name], gradient) for name, gradient in expected_gradients.items())
    network, casts = policy.module.model.diffusion_model, []

    def note(layer, args):
        if torch.is_grad_enabled() and args[0].requires_grad:  # else its input's gradient isn't wanted
            casts.append(4 * layer.base_layer.weight.numel())

    for name in policy.adapted_layers:
        network.get_submodule(name).register_forward_pre_hook(note)
    before = saved_bytes(policy, 1)
    assert before - kept == sum(casts) / 2 > 0  # two model calls


def test_other_adapters_of_peft_are_pefts_own(layer):
    """DoRA by the same layer class: its forward is left to peft."""
    from peft import LoraConfig, inject_adapter_in_model

    nets = []
    for lean in (True, False):
        torch.manual_seed(3)
        config = LoraConfig(r=4, target_modules=["0"], use_dora=True, init_lora_weights=False)
        if lean:
            config._register_custom_module({nn.Linear: layer})
        nets.append(inject_adapter_in_model(config, nn.Sequential(nn.Linear(8, 8))))
    assert type(nets[0][0]) is layer and type(nets[1][0]) is not layer
    x = torch.randn(3, 8)
    assert torch.equal(nets[0](x), nets[1](x))
    assert not torch.equal(nets[0](x), nets[0][0].base_layer(x))
