"""DiffusionNFT's objective: known answers, and what a rollout for it leaves."""

import pytest
import torch

from mixgrpo_engine.forward_process import forward_rollout, nft_loss, optimality
from mixgrpo_engine.rollout import sample_ode
from mixgrpo_engine.schedule import flow_sigmas
from mixgrpo_engine.solvers import DPMSolverPP

SIGMA = 0.6


@pytest.fixture
def images():
    """(x0, v = noise - x0, x at SIGMA) of 4 images."""
    generator = torch.Generator().manual_seed(0)
    x0, noise = (torch.randn(4, 3, 2, 2, generator=generator) for _ in range(2))
    return x0, noise - x0, (1 - SIGMA) * x0 + SIGMA * noise


def test_optimality_known_values():
    advantages = torch.tensor([-9.0, -5.0, 0.0, 2.5, 5.0, 7.0])
    torch.testing.assert_close(optimality(advantages, 5.0), torch.tensor([0.0, 0.0, 0.5, 0.75, 1.0, 1.0]))


def loss_of(velocity, old, images, advantages, clip=5.0, beta=0.5):
    x0, _, noised = images
    return nft_loss(velocity, old, noised, x0, SIGMA, torch.tensor(advantages), clip, beta)


@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_certain_images_are_fitted_where_the_implicit_policy_meets_them(images, beta):
    """r = 1: v+ = v at v_old + (v - v_old) / beta. r = 0: v- = v on the other side of v_old."""
    _, v, _ = images
    old = torch.zeros_like(v)
    sign = torch.tensor([1.0, 1.0, -1.0, -1.0])[:, None, None, None]
    assert float(loss_of(sign * v / beta, old, images, [5.0, 9.0, -5.0, -6.0], beta=beta)) == pytest.approx(0, abs=1e-6)


def test_the_loss_is_the_papers_equation(images):
    x0, v, noised = images
    generator = torch.Generator().manual_seed(1)
    new, old = (v + torch.randn(v.shape, generator=generator) for _ in range(2))
    advantages, beta, clip = [3.0, -1.0, 0.5, -5.0], 0.4, 5.0
    expected = 0.0
    for row, advantage in enumerate(advantages):
        r = 0.5 + 0.5 * advantage / clip
        for share, mixed in (
            (r, (1 - beta) * old[row] + beta * new[row]),
            (1 - r, (1 + beta) * old[row] - beta * new[row]),
        ):
            error = SIGMA * (mixed - v[row])  # of the predicted image
            expected += share * error.square().mean() / error.abs().mean() * clip / beta / 4
    torch.testing.assert_close(loss_of(new, old, images, advantages, clip, beta), expected)


@pytest.mark.parametrize("clip,beta", [(5.0, 1.0), (5.0, 0.1), (2.0, 0.1)])
def test_the_first_gradient_is_that_of_regression_weighted_by_advantages(images, clip, beta):
    """At v = v_old both policies are the old one: d/dv is 2 sigma A (v_old - v_image) / (mean |...| values)."""
    _, v, _ = images
    old = v + torch.randn(v.shape, generator=torch.Generator().manual_seed(2))
    new = old.clone().requires_grad_()
    advantages = torch.tensor([1.5, -0.5, 0.0, -2.0])
    (gradient,) = torch.autograd.grad(loss_of(new, old, images, advantages.tolist(), clip, beta), new)
    size = (old - v).abs().mean((1, 2, 3), keepdim=True)
    expected = 2 * SIGMA * advantages[:, None, None, None] * (old - v) / size / v[0].numel() / len(v)
    torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=1e-4)
    assert not gradient[2].any(), "neither good nor bad: nothing to learn from"


@pytest.mark.parametrize("beta", [0.1, 0.5])
def test_the_best_policy_is_that_of_the_papers_theorem(beta):
    """v_old + (2 / beta) E[r (v_image - v_old)]: here +-u are seen under noise, +u is good (r = 3/4), v_old is 0."""
    u, noise = torch.tensor([1.0, 1.0, -1.0, -1.0]), 50 * torch.tensor([1.0, -1.0, 1.0, -1.0])  # errors of equal size
    velocities = torch.stack([u + noise, u - noise, -u + noise, -u - noise])
    noised, advantages = torch.zeros(4, 4), torch.tensor([2.5, 2.5, -2.5, -2.5])
    best = 2 / beta * (optimality(advantages, 5.0)[:, None] * velocities).mean(0)
    torch.testing.assert_close(best, u / (2 * beta))
    for v, at_rest in ((best, True), (0.9 * best, False), (1.1 * best, False)):
        new = v.expand(4, 4).clone().requires_grad_()
        nft_loss(new, torch.zeros(4, 4), noised, noised - SIGMA * velocities, SIGMA, advantages, 5.0, beta).backward()
        assert (float(new.grad.sum(0).abs().max()) < 1e-4) is at_rest


def test_no_gradient_reaches_the_old_policy(images):
    _, v, _ = images
    old, new = torch.zeros_like(v).requires_grad_(), v.clone().requires_grad_()
    loss_of(new, old, images, [1.0, 2.0, -1.0, 0.5]).backward()
    assert old.grad is None and new.grad.any()


def generators():
    return [torch.Generator().manual_seed(row) for row in range(3)]


def field(latents, sigma):
    return latents * 0.5 + sigma


def test_a_rollout_noises_the_images_that_the_solver_has_made():
    noise, sigmas, window, places = torch.randn(3, 1, 2, 2), flow_sigmas(6), range(1, 5), [0, 2, 3]
    made = forward_rollout(field, noise, sigmas, window, places, generators=generators(), solver=DPMSolverPP(2))
    torch.testing.assert_close(made.latents, sample_ode(field, noise, sigmas, DPMSolverPP(2)))
    assert made.log_probs is None and not made.shared_noise and made.forwards == 3 * (6 + 3)
    drawn = generators()
    for place in places:
        sigma = float(sigmas[1 + place])
        own = torch.stack([torch.randn(1, 2, 2, generator=each) for each in drawn])
        torch.testing.assert_close(made.states[place], (1 - sigma) * made.latents + sigma * own)
        torch.testing.assert_close(made.velocities[place], field(made.states[place], sigma))
