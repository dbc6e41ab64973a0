import math

import pytest
import torch

from mixgrpo_engine.objective import policy_loss, velocity_kl


def test_at_ratio_1_the_loss_is_minus_the_mean_advantage_and_its_gradient_is_minus_the_advantage():
    old = torch.tensor([0.3, -0.2, 0.1])
    new = old.clone().requires_grad_()
    advantages = torch.tensor([1.0, -2.0, 0.5])
    loss = policy_loss(new, old, advantages, 1e-4)
    assert float(loss.detach()) == pytest.approx(-float(advantages.mean()))
    (gradient,) = torch.autograd.grad(loss, new)
    torch.testing.assert_close(gradient, -advantages / 3)


@pytest.mark.parametrize(
    "ratio,advantage,expected,has_gradient",
    [
        (1.5, 1.0, -1.2, False),  # too probable already: clipped
        (1.5, -1.0, 1.5, True),  # became more probable though bad: the full loss
        (0.5, 1.0, -0.5, True),
        (0.5, -1.0, 0.8, False),
    ],
)
def test_clipping_known_values(ratio, advantage, expected, has_gradient):
    new = torch.tensor([math.log(ratio)], requires_grad=True)
    loss = policy_loss(new, torch.zeros(1), torch.tensor([advantage]), 0.2)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-6)
    (gradient,) = torch.autograd.grad(loss, new)
    assert bool(gradient != 0) is has_gradient


def test_steps_by_batch():
    new, old = torch.zeros(4, 3), torch.zeros(4, 3)
    assert float(policy_loss(new, old, torch.tensor([1.0, 2.0, 3.0]), 0.2)) == pytest.approx(-2.0)


def test_velocity_kl_known_value_and_gradient():
    velocity = torch.tensor([[1.0, 2.0], [0.0, 0.0]], requires_grad=True)
    base = torch.tensor([[0.0, 0.0], [0.0, 1.0]], requires_grad=True)
    kl = velocity_kl(velocity, base)
    torch.testing.assert_close(kl.detach(), torch.tensor([2.5, 0.5]))
    kl.sum().backward()
    torch.testing.assert_close(velocity.grad, torch.tensor([[1.0, 2.0], [0.0, -1.0]]))
    assert base.grad is None
