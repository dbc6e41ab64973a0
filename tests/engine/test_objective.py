import math

import pytest
import torch

from mixgrpo_engine.objective import (
    flow_grpo_kl,
    kl_mask_loss,
    mean_kl,
    mean_squared_shift,
    policy_loss,
    ratio_norm,
    ratio_norm_loss,
    velocity_kl,
)
from mixgrpo_engine.schedule import flow_sigmas
from mixgrpo_engine.transitions import flow_sde, log_prob


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


def test_mean_kl_is_the_kl_of_the_two_gaussians_and_has_a_gradient():
    mean, base, std = torch.randn(3, 4).requires_grad_(), torch.randn(3, 4), 0.3
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(mean, std), normal(base, std)).mean(1)
    kl = mean_kl(mean, base, std)
    torch.testing.assert_close(kl, expected)
    kl.sum().backward()
    torch.testing.assert_close(mean.grad, (mean.detach() - base) / (4 * std**2))


def test_flow_grpo_kl_divides_by_the_diffusion_alone():
    """(mu - mu_base)^2 / (2 g^2), g^2 = eta^2 sigma / (1 - sigma): the exact KL has g^2 * (sigma - sigma_next)."""
    velocity, base = torch.randn(3, 4).requires_grad_(), torch.randn(3, 4)
    stronger = []
    for sigma, sigma_next in zip(*(flow_sigmas(10)[part].tolist() for part in (slice(-2), slice(1, -1))), strict=True):
        (mean, std), (base_mean, _) = (flow_sde(0 * base, v, sigma, sigma_next, 0.7) for v in (velocity, base))
        g2 = 0.49 * sigma / (1 - min(sigma, flow_sigmas(10)[1].item()))
        kl = flow_grpo_kl(mean, base_mean, std, sigma - sigma_next)
        torch.testing.assert_close(kl, (mean - base_mean).square().mean(1) / (2 * g2), rtol=1e-4, atol=1e-7)
        stronger.append(float((mean_kl(mean, base_mean, std) / kl)[0].detach()))
    assert (min(stronger), max(stronger)) == pytest.approx((5.6, 28.0), rel=1e-3)
    (gradient,) = torch.autograd.grad(kl.sum(), velocity)
    assert (gradient != 0).all()


@pytest.fixture
def step():
    """A transition that has moved: noise eps, change dmu of the mean, std, new and old log-probabilities."""
    generator = torch.Generator().manual_seed(0)
    eps, change = (torch.randn(5, 3, 4, 4, generator=generator) for _ in range(2))
    change, std = 0.02 * change, 0.4
    old_mean = torch.randn(5, 3, 4, 4, generator=generator)
    sample = old_mean + std * eps
    new, old = log_prob(sample, old_mean + change, std), log_prob(sample, old_mean, std)
    return eps, change, std, new, old


def test_ratio_norm_is_the_mean_of_noise_times_change(step):
    eps, change, std, new, old = step
    shift = mean_squared_shift(change, torch.zeros_like(change))
    expected = (eps * change).flatten(1).mean(1)
    torch.testing.assert_close(ratio_norm(new, old, shift, std).log(), expected, atol=1e-6, rtol=1e-4)


def test_ratio_norm_loss_is_the_clipped_loss_over_the_step_size(step):
    eps, change, std, new, old = step
    advantages = torch.tensor([1.0, -1.0, 0.5, 2.0, -0.3])
    shift = mean_squared_shift(change, torch.zeros_like(change))
    log_ratio = (eps * change).flatten(1).mean(1)
    expected = policy_loss(log_ratio, torch.zeros(5), advantages, 1e-3) / 0.05
    torch.testing.assert_close(
        ratio_norm_loss(new, old, shift, std, 0.05, advantages, 1e-3), expected, atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize(
    "ratio,advantage,shift,expected",
    [
        (1.5, 1.0, 0.1, 0.0),  # more probable and good, but too far already
        (1.5, 1.0, 1e-9, -1.5),  # not far: no clip at all
        (1.5, -1.0, 0.1, 1.5),  # too far, but it has to come back
        (0.5, -1.0, 0.1, 0.0),
        (0.5, 1.0, 0.1, -0.5),
    ],
)
def test_kl_mask_known_values(ratio, advantage, shift, expected):
    new = torch.tensor([math.log(ratio)], requires_grad=True)
    loss = kl_mask_loss(new, torch.zeros(1), torch.tensor([shift]), 0.5, torch.tensor([advantage]), 1e-6)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-6)
    (gradient,) = torch.autograd.grad(loss, new)
    assert bool(gradient != 0) is (expected != 0)


def test_kl_mask_leaves_masked_images_in_the_mean():
    log_prob = torch.full((4,), 0.1)
    shift, advantages = torch.tensor([1.0, 1.0, 0.0, 0.0]), torch.tensor([1.0, -1.0, 2.0, 3.0])
    loss = kl_mask_loss(log_prob, torch.zeros(4), shift, 0.5, advantages, 1e-6)
    assert float(loss) == pytest.approx(-math.exp(0.1) * (0 - 1 + 2 + 3) / 4, rel=1e-6)


def test_kl_mask_threshold_is_the_kl_of_the_step():
    one, threshold, std = torch.ones(1), 2.0**-20, 0.5  # exact in binary, so that "reached" can be tested
    at_threshold = 2 * std**2 * threshold
    for shift, masked in ((at_threshold * 1.001, True), (at_threshold, True), (at_threshold * 0.999, False)):
        loss = kl_mask_loss(one * 0.1, one * 0, one * shift, std, one, threshold)
        assert (float(loss) == 0) is masked
