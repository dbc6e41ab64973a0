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
