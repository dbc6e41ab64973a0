"""Gradients through ComfyUI's model code: against finite differences, and with checkpointing against without."""

import pytest
import torch

from tests.nodes import tiny_models
from tests.nodes.model.finite_differences import SIGMA, gradients, in_float64, random_weights, slopes


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_every_adapter_gradient_agrees_with_finite_differences(build, policy_of, cfg, checkpointing):
    policy = policy_of(build(dtype=torch.float64), rank=2, cfg=cfg, gradient_checkpointing=checkpointing)
    outputs = in_float64(policy)
    tiny_models.train_a_little(policy)
    weights = random_weights(policy)
    _, found = gradients(policy, ["red"], weights)
    for name, slope, norm in slopes(policy, outputs, weights, cfg, found):
        assert norm > 0 and slope == pytest.approx(norm, rel=1e-5), name


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_checkpointing_changes_no_gradient(build, policy_of, cfg):
    results = []
    for checkpointing in (False, True):
        policy = policy_of(build(), cfg=cfg, gradient_checkpointing=checkpointing)
        tiny_models.train_a_little(policy)
        results.append(gradients(policy, ["red", "long"], random_weights(policy, 2)))
    (velocity, plain), (velocity_again, checkpointed) = results
    assert torch.equal(velocity, velocity_again)
    for name, gradient in plain.items():
        assert gradient.abs().max() > 0, name
        assert (gradient - checkpointed[name]).norm() <= 1e-6 * gradient.norm(), name


def test_checkpointing_keeps_far_less_for_the_backward_pass(build, policy_of):
    kept = []
    for checkpointing in (False, True):
        policy = policy_of(build(), gradient_checkpointing=checkpointing)
        condition, tensors = policy.condition(["red"]), {}

        def pack(tensor, tensors=tensors):
            tensors[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        # The first call also checks the blocks; what counts is the next one.
        policy.module(policy.noise([0]), SIGMA, condition)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            velocity = policy.module(policy.noise([0]), SIGMA, condition)
        parameters = {parameter.untyped_storage().data_ptr() for parameter in policy.module.parameters()}
        kept.append(sum(size for place, size in tensors.items() if place not in parameters))
        del velocity
    assert kept[1] < 0.2 * kept[0]


def test_checkpointing_holds_when_the_adapter_is_off_in_between(build, policy_of):
    results = []
    for checkpointing in (False, True):
        policy = policy_of(build(), gradient_checkpointing=checkpointing)
        tiny_models.train_a_little(policy)
        x, condition = policy.noise([0]), policy.condition(["red"])
        velocity = policy.module(x, SIGMA, condition)
        with policy.base(), torch.no_grad():
            base = policy.module(x, SIGMA, condition)
        ((velocity - base) ** 2).mean().backward()
        results.append(torch.cat([tensor.grad.flatten() for tensor in policy.adapter_state().values()]))
    plain, checkpointed = results
    assert plain.norm() > 0
    assert (plain - checkpointed).norm() <= 1e-6 * plain.norm()


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_model_that_would_get_wrong_gradients_is_refused(comfy, room, policy_of, monkeypatch, checkpointing):
    # FLUX without the copies that keep its in-place updates away from what the norms saved.
    monkeypatch.setattr(room("nodes.model.gradients"), "_keep_input", lambda layer, args: None)
    policy = policy_of(tiny_models.flux(), gradient_checkpointing=checkpointing)
    with pytest.raises(RuntimeError, match="DoubleStreamBlock changes tensors in place .* this model can't be trained"):
        policy.module(policy.noise([0]), SIGMA, policy.condition(["red"]))


def test_a_rollout_without_gradients_is_the_same_velocity(build, policy_of):
    policy = policy_of(build(), gradient_checkpointing=True)
    tiny_models.train_a_little(policy)
    x, condition = policy.noise([0, 1]), policy.condition(["red", "green"])
    with torch.no_grad():
        rollout = policy.module(x, SIGMA, condition)
    assert torch.equal(policy.module(x, SIGMA, condition).detach(), rollout)


@pytest.mark.parametrize(
    ("dtype", "compute_dtype"),
    [(torch.bfloat16, None), (torch.bfloat16, torch.float32), (torch.float8_e4m3fn, torch.bfloat16)],
)
def test_low_precision_bases_train(build, policy_of, dtype, compute_dtype):
    results = []
    for checkpointing in (False, True):
        policy = policy_of(build(dtype=dtype, compute_dtype=compute_dtype), gradient_checkpointing=checkpointing)
        tiny_models.train_a_little(policy)
        results.append(gradients(policy, ["red"], random_weights(policy)))
    (velocity, plain), (_, checkpointed) = results
    assert velocity.dtype == torch.float32 and velocity.isfinite().all()
    for name, gradient in plain.items():
        assert gradient.dtype == torch.float32 and gradient.abs().max() > 0, name
        assert torch.equal(gradient, checkpointed[name]), name


def test_a_model_made_under_inference_mode_trains(build, policy_of):
    with torch.inference_mode():
        model = build()
        assert next(model.model.parameters()).is_inference()
        policy = policy_of(model)
    tiny_models.train_a_little(policy)
    _, found = gradients(policy, ["red"], random_weights(policy))
    assert all(gradient.abs().max() > 0 for gradient in found.values())


def test_an_attention_without_gradient_is_replaced(comfy, build, policy_of, monkeypatch):
    from comfy.ldm.modules import attention

    calls = []
    pytorch = attention.attention_pytorch

    def counted(*args, **kwargs):
        calls.append(1)
        return pytorch(*args, **kwargs)

    monkeypatch.setattr(attention, "attention_pytorch", counted)
    # The second one is of newer versions.
    for name in ("attention_sage", "attention_comfy_kitchen_int8"):
        if hasattr(attention, name):
            monkeypatch.setattr(attention, "optimized_attention", getattr(attention, name))
            policy = policy_of(build())
            policy.module(policy.noise([0]), SIGMA, policy.condition(["red"]))
            assert calls
            calls.clear()
