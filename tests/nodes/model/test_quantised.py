"""Quantised loaders of other packs, by a stand-in: tensors that are unpacked when they are used, as GGUF's layers do.

The stand-in has the ways of that pack that matter: a tensor's detach() and clone() are the tensor itself, what it is
packed by and the LoRAs that act on it hang on it as attributes, and its patcher takes those off when it unloads.
"""

import logging

import pytest
import torch
from torch import nn

from benchmarks.measured_bytes import measured_peak
from tests.nodes import tiny_models
from tests.nodes.model import stock
from tests.nodes.model.finite_differences import gradients, random_weights


class Packed(torch.Tensor):
    """(rows, columns) int8, a scale, and LoRAs to be added when it is unpacked."""

    def detach(self):
        return self

    def clone(self, *args, **kwargs):
        return self


def pack(weight):
    scale = float(weight.abs().max() / 127)
    packed = (weight / scale).round().to(torch.int8).as_subclass(Packed)
    packed.scale, packed.patches = scale, []
    return packed


def unpack(packed, dtype):
    import comfy.lora

    weight = packed.as_subclass(torch.Tensor).to(dtype) * packed.scale
    for patches, key in packed.patches:
        weight = comfy.lora.calculate_weight(patches, weight, key)
    return weight


@pytest.fixture
def packed_model(comfy):
    """A tiny SD3 whose blocks' linear layers are packed."""
    import comfy.model_patcher

    class PackedPatcher(comfy.model_patcher.ModelPatcher):
        def patch_weight_to_device(self, key, device_to=None, inplace_update=False):
            weight = comfy.utils.get_attr(self.model, key)
            if not isinstance(weight, Packed):
                super().patch_weight_to_device(key, device_to, inplace_update)
            elif key in self.patches:
                weight.patches = [(self.patches[key], key)]

        def unpatch_model(self, device_to=None, unpatch_weights=True):
            for parameter in self.model.parameters():
                if isinstance(parameter, Packed):
                    parameter.patches = []
            super().unpatch_model(device_to, unpatch_weights)

    class PackedLinear(comfy.ops.manual_cast.Linear):
        def forward(self, x):
            return nn.functional.linear(x, unpack(self.weight, x.dtype), self.bias)

    model = tiny_models.sd3()
    for layer in model.model.diffusion_model.joint_blocks.modules():
        if isinstance(layer, nn.Linear):
            layer.weight = nn.Parameter(pack(layer.weight.detach()), requires_grad=False)
            layer.__class__ = PackedLinear
    model.__class__ = PackedPatcher
    return model


def velocities(policy, model, encoded):
    """(stock's, the policy's) at one place."""
    with torch.no_grad():
        own = policy.module(policy.noise([5]), 0.6, policy.condition(["red"]))
    return stock.one_velocity(model, policy.noise([5]), 0.6, encoded["red"], encoded[""]), own


def close(one, other):
    return (one - other).abs().max() < 2e-5 * other.abs().max()


@pytest.fixture
def lora_upstream(packed_model, policy_of, tmp_path, caplog):
    """The packed model with a LoRA in front of Train."""
    policy = policy_of(packed_model)
    tiny_models.train_a_little(policy, seed=1)
    return stock.with_lora_of(policy, packed_model, tmp_path / "upstream.safetensors", caplog)


def test_a_lora_upstream_of_a_packed_model_stays_in_the_policy(packed_model, lora_upstream, policy_of, encoded):
    policy = policy_of(lora_upstream)
    expected, own = velocities(policy, lora_upstream, encoded)
    assert close(own, expected)
    without, again = velocities(policy, packed_model, encoded)
    assert (without - expected).abs().max() > 1e-2
    assert torch.equal(again, own), "sampling with the shared MODEL has changed the policy"


def test_a_packed_model_trains_packed_and_its_lora_loads(packed_model, policy_of, encoded, tmp_path, caplog):
    policy = policy_of(packed_model, gradient_checkpointing=True)
    tiny_models.train_a_little(policy)
    network = policy.module.model.diffusion_model
    for name in policy.adapted_layers:
        mine = network.get_submodule(name).base_layer.weight
        shared = packed_model.model.diffusion_model.get_submodule(name).weight
        assert isinstance(mine, Packed) and mine.dtype == torch.int8 and mine is not shared
        assert mine.data_ptr() == shared.data_ptr(), "the weights are held twice"
    _, found = gradients(policy, ["red"], random_weights(policy))
    assert all(gradient.abs().max() > 0 for gradient in found.values())
    tuned = stock.with_lora_of(policy, packed_model, tmp_path / "run.safetensors", caplog)
    expected, own = velocities(policy, tuned, encoded)
    assert close(own, expected)
    assert not close(velocities(policy, packed_model, encoded)[0], own)


def test_a_packed_model_stays_packed_in_host_memory(packed_model, lora_upstream, policy_of):
    """The LoRA upstream hangs on the packed weights, and comes with them."""
    results = []
    for swapped_blocks in (0, 2):
        policy = policy_of(lora_upstream, gradient_checkpointing=True, swapped_blocks=swapped_blocks)
        tiny_models.train_a_little(policy)
        results.append(gradients(policy, ["red"], random_weights(policy)))
    (velocity, found), (swapped_velocity, swapped_found) = results
    assert torch.equal(velocity, swapped_velocity)
    assert all(torch.equal(gradient, swapped_found[name]) for name, gradient in found.items())
    layers = [policy.module.model.diffusion_model.get_submodule(name).base_layer for name in policy.adapted_layers]
    packed = sum(layer.weight.nbytes for layer in layers)
    policy.swap.fetched = 0
    gradients(policy, ["red"], random_weights(policy))
    assert 2 * packed <= policy.swap.fetched < 2.5 * packed, "a byte a weight"


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_memory_of_a_packed_model_is_estimated(room, packed_model, policy_of, encoded, checkpointing):
    """Every unpacked copy counts: without checkpointing they all stay until the backward pass."""
    size = {"width": tiny_models.SIZE, "height": tiny_models.SIZE, "gradient_checkpointing": checkpointing}
    config = room("mixgrpo_engine.config").TrainConfig.from_dict({"adapter": {"rank": 4}, "run": size})
    needs = room("nodes.model.preflight").Preflight(packed_model, tiny_models.vae(), encoded, ["red"]).needs(config)
    policy = policy_of(packed_model, gradient_checkpointing=checkpointing)

    def update(images):
        latents, condition = policy.noise(range(images)), policy.condition(["red"] * images)
        condition.plan()
        return lambda: policy.module(latents, 0.6, condition).square().mean().backward()

    update(1)()  # makes the gradients, which are counted with the adapter
    for images in (1, 2, 4):
        measured = measured_peak(update(images))
        assert -0.05 < needs.update.of(images) / measured - 1 < 0.15, (images, needs.update.of(images), measured)


def test_layers_that_do_not_tell_their_sizes_are_refused_by_name(comfy, policy_of, caplog):
    class Linear(nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.hidden = [layer]

        def forward(self, x):
            return self.hidden[0](x)

    model = tiny_models.sd3()
    for block in list(model.model.diffusion_model.modules()):
        for name, layer in list(block.named_children()):
            if isinstance(layer, nn.Linear):
                setattr(block, name, Linear(layer))
    with caplog.at_level(logging.WARNING), pytest.raises(ValueError, match=r"Linear of .*don't tell their sizes. Load"):
        policy_of(model)
