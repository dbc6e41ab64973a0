"""A noise level for each row of a batch: what joins several window steps in one model call."""

import pytest
import torch

LEVELS = [0.9, 0.4, 0.9]


@pytest.fixture(params=[1.0, 3.0])
def policy(request, build, policy_of):
    return policy_of(build(), cfg=request.param)


def same(one, other):
    """Equal to float32's rounding, measured by the largest value: single elements near zero have no digits of it."""
    assert float((one - other).abs().max()) <= 1e-5 * float(other.abs().max())


def apart(policy, latents, condition):
    return torch.cat([policy.module(latents[row : row + 1], LEVELS[row], condition.select([row])) for row in range(3)])


def test_rows_of_other_sigmas_equal_calls_of_their_own(policy):
    condition = policy.condition(["red", "green", "long"])
    latents = policy.noise([1, 2, 3])
    with torch.no_grad():
        joined = policy.module(latents, torch.tensor(LEVELS), condition)
        same(joined, apart(policy, latents, condition))


def test_a_patched_model_sees_one_sigma_a_call(build, policy_of):
    """Patches of others may go by the noise level: they get calls with one level, and the gradient is whole."""
    seen = []

    def wrapper(apply_model, arguments):
        seen.append(arguments["timestep"].unique().tolist())
        return apply_model(arguments["input"], arguments["timestep"], **arguments["c"])

    model = build().clone()
    model.set_model_unet_function_wrapper(wrapper)
    policy = policy_of(model)
    condition, latents = policy.condition(["red", "green", "red"]), policy.noise([1, 2, 3])
    joined = policy.module(latents, torch.tensor(LEVELS), condition)
    assert [len(levels) for levels in seen] == [1, 1]
    with torch.no_grad():
        same(joined, apart(policy, latents, condition))
    joined.square().sum().backward()
    got = [value.grad.clone() for value in policy.adapter_state().values()]
    for value in policy.adapter_state().values():
        value.grad = None
    apart(policy, latents, condition).square().sum().backward()
    for one, value in zip(got, policy.adapter_state().values(), strict=True):
        same(one, value.grad)
