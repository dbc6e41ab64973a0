"""Known answers of algorithm's equations. The ideal velocity of x0 = a constant is (x - x0) / sigma."""

import math

import pytest
import torch

from mixgrpo_engine.presets import preset
from mixgrpo_engine.schedule import diffusers_sigmas, flow_sigmas
from mixgrpo_engine.transitions import TRANSITIONS, cps, dance_sde, draw, euler, flow_sde, log_prob

SHAPE = (3, 4, 5, 5)
STEPS = [(1.0, 0.96), (0.9, 0.85), (0.5, 0.4), (0.1, 0.05)]


@pytest.fixture
def xv():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(SHAPE, generator=generator), torch.randn(SHAPE, generator=generator)


def test_names():
    assert all(TRANSITIONS[each.__name__] is each for each in (flow_sde, dance_sde, cps))


@pytest.mark.parametrize("sigma,sigma_next", STEPS)
@pytest.mark.parametrize("transition", [flow_sde, dance_sde, cps])
def test_eta_0_is_euler(xv, transition, sigma, sigma_next):
    mean, std = transition(*xv, sigma, sigma_next, 0.0)
    assert std == 0
    torch.testing.assert_close(mean, euler(*xv, sigma, sigma_next), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("sigma,sigma_next", STEPS)
@pytest.mark.parametrize("eta", [0.3, 0.7, 1.0])
def test_cps_keeps_the_noise_budget_exactly(sigma, sigma_next, eta):
    # x = (1 - sigma) x0 + sigma x1 with v = x1 - x0: the mean's share of x1, squared, plus std^2 is sigma_next^2.
    x0, x1 = torch.zeros(1, 4), torch.ones(1, 4)
    mean, std = cps((1 - sigma) * x0 + sigma * x1, x1 - x0, sigma, sigma_next, eta)
    assert float(mean[0, 0]) ** 2 + std**2 == pytest.approx(sigma_next**2, rel=1e-6)
    x0, x1 = torch.ones(1, 4), torch.zeros(1, 4)
    mean, _ = cps((1 - sigma) * x0 + sigma * x1, x1 - x0, sigma, sigma_next, eta)
    assert float(mean[0, 0]) == pytest.approx(1 - sigma_next, rel=1e-6)


@pytest.mark.parametrize("eta,share", [(0.5, 0.5**0.5), (1 / 3, 0.5), (1.0, 1.0)])
def test_cps_replaces_the_asked_share_of_the_noise(xv, eta, share):
    """std = sigma' * sin(eta * pi / 2); at eta = 1 nothing of the predicted noise is left in the mean."""
    mean, std = cps(*xv, 0.9, 0.85, eta)
    assert std == pytest.approx(0.85 * share)
    denoised, noise = xv[0] - 0.9 * xv[1], xv[0] + 0.1 * xv[1]
    torch.testing.assert_close(mean, 0.15 * denoised + 0.85 * math.sqrt(1 - share**2) * noise)


def test_cps_last_step_is_deterministic(xv):
    mean, std = cps(*xv, 0.1, 0.0, 0.7)
    assert std == 0
    torch.testing.assert_close(mean, xv[0] - 0.1 * xv[1])


@pytest.mark.parametrize("sigma,sigma_next", STEPS[1:])
@pytest.mark.parametrize("eta", [0.3, 0.7, 1.0])
def test_flow_sde_excess_variance(sigma, sigma_next, eta):
    """Euler-Maruyama adds (eta*Delta)^2 / (1 - sigma) * (1 + eta^2 / (4 (1 - sigma))) to sigma_next^2."""
    delta = sigma - sigma_next
    # x0 = 0: x = sigma * x1, v = x1 = x / sigma; the mean is linear in x, so one number gives the variance.
    x = torch.full((1, 1), sigma)
    mean, std = flow_sde(x, x / sigma, sigma, sigma_next, eta)
    variance = float(mean) ** 2 + std**2
    excess = (eta * delta) ** 2 / (1 - sigma) * (1 + eta**2 / (4 * (1 - sigma)))
    # In its own terms: the discretisation error is of second order in Delta.
    assert variance - sigma_next**2 == pytest.approx(excess, rel=2e-4)


def test_flow_sde_gradient_factor(xv):
    x, v = xv
    v = v.requires_grad_()
    mean, _ = flow_sde(x, v, 0.6, 0.5, 0.7)
    (gradient,) = torch.autograd.grad(mean.sum(), v)
    torch.testing.assert_close(gradient, torch.full_like(v, -(1 + 0.7**2 / 2) * 0.1))


def test_flow_sde_at_sigma_1_uses_the_next_sigma(xv):
    mean, std = flow_sde(*xv, 1.0, 0.96, 0.7)
    g2 = 0.7**2 / (1 - 0.96)
    assert std == pytest.approx(math.sqrt(g2 * 0.04))
    torch.testing.assert_close(mean, xv[0] * (1 - g2 * 0.04 / 2) - xv[1] * 0.04)


def test_dance_sde_known_value():
    x, v = torch.full((1, 1), 2.0), torch.full((1, 1), 1.0)
    # sigma .5, x0 = 2 - .5 = 1.5; drift = 2 - 1*.1 - .5*.09*.1*(2 - .5*1.5)/.25
    mean, std = dance_sde(x, v, 0.5, 0.4, 0.3)
    assert float(mean) == pytest.approx(2 - 0.1 - 0.5 * 0.09 * 0.1 * (2 - 0.75) / 0.25, rel=1e-6)
    assert std == pytest.approx(0.3 * math.sqrt(0.1))


def test_log_prob_is_the_mean_of_torch_normal(xv):
    mean, sample = xv
    expected = torch.distributions.Normal(mean, 0.3).log_prob(sample).flatten(1).mean(1)
    torch.testing.assert_close(log_prob(sample, mean, 0.3), expected)
    assert log_prob(sample, mean, 0.3).shape == (3,)


def test_log_ratio_is_the_mean_of_noise_times_change(xv):
    """log(r_hat) = mean(eps * dmu)/std exactly, after RatioNorm's centring: pins log_prob's scale and sign."""
    generator = torch.Generator().manual_seed(1)
    eps, change = torch.randn(SHAPE, generator=generator), 0.01 * torch.randn(SHAPE, generator=generator)
    old, std = flow_sde(*xv, 0.8, 0.7, 0.7)
    sample = old + std * eps
    log_ratio = log_prob(sample, old + change, std) - log_prob(sample, old, std)
    centred = log_ratio + change.square().flatten(1).mean(1) / (2 * std**2)
    torch.testing.assert_close(std * centred, (eps * change).flatten(1).mean(1), atol=1e-6, rtol=1e-4)


def test_log_prob_refuses_a_deterministic_step(xv):
    with pytest.raises(ValueError, match="std"):
        log_prob(*xv, 0.0)


def test_half_precision_input_is_computed_in_float32(xv):
    x, v = (t.half() for t in xv)
    for transition in (flow_sde, dance_sde, cps):
        assert transition(x, v, 0.9, 0.85, 0.7)[0].dtype == torch.float32
    assert euler(x, v, 0.9, 0.85).dtype == torch.float32
    torch.testing.assert_close(log_prob(x, v, 0.3), log_prob(x.float(), v.float(), 0.3))


def test_draw_has_the_asked_spread_and_is_seeded():
    mean = torch.zeros(1, 200_000)
    sample = draw(mean, 0.5, torch.Generator().manual_seed(1))
    assert float(sample.std()) == pytest.approx(0.5, rel=0.01)
    assert torch.equal(sample, draw(mean, 0.5, torch.Generator().manual_seed(1)))


def test_draw_with_a_generator_a_row_does_not_depend_on_the_batch():
    def rows(*numbers):
        generators = [torch.Generator().manual_seed(number) for number in numbers]
        return torch.stack([draw(torch.ones(len(numbers), 3, 5), 0.3, generators) for _ in range(2)])

    assert torch.equal(rows(7, 8, 9)[:, 1], rows(8)[:, 0])
    plain = draw(torch.ones(1, 3, 5), 0.3, torch.Generator().manual_seed(8))
    assert torch.equal(rows(8)[0], plain)


def marginals(transition, steps, eta=0.7, window=None):
    """Of sampling Gaussian data N(.3, .6^2), shift 3, by its ideal velocity: after each step (mean - its exact value,
    variance / its exact value).

    Every step is linear in the latents, so it carries mean and variance along without any draw. window: the random
    steps, all but the last without one; the others are Euler's.
    """
    data_mean, data_std, sigmas = 0.3, 0.6, flow_sigmas(steps, 3.0).tolist()
    mean, variance, after = 0.0, 1.0, []
    for step, (sigma, sigma_next) in enumerate(zip(sigmas[:-1], sigmas[1:], strict=True)):
        x = torch.tensor([[0.0], [1.0]])
        exact = ((1 - sigma) * data_std) ** 2 + sigma**2
        centred = x - (1 - sigma) * data_mean
        x0, x1 = data_mean + (1 - sigma) * data_std**2 / exact * centred, sigma / exact * centred
        if step in (range(steps - 1) if window is None else window):
            moved, std = transition(x, x1 - x0, sigma, sigma_next, eta)
        else:
            moved, std = euler(x, x1 - x0, sigma, sigma_next), 0.0
        offset, slope = float(moved[0]), float(moved[1] - moved[0])
        mean, variance = offset + slope * mean, slope**2 * variance + std**2
        exact = ((1 - sigma_next) * data_std) ** 2 + sigma_next**2
        after.append((mean - (1 - sigma_next) * data_mean, variance / exact))
    return after


@pytest.mark.parametrize(
    "transition,steps,share",
    [
        (flow_sde, 25, 0.887), (dance_sde, 25, 0.880), (cps, 25, 0.584),
        (flow_sde, 1000, 1.000), (dance_sde, 1000, 0.997), (cps, 1000, 0.716),
    ],
)  # fmt: skip
def test_the_images_variance_over_the_exact_one(transition, steps, share):
    """The SDEs reach the data's distribution with many steps, from sigma 1 on. CPS doesn't: what it keeps is the noise
    level of a known image, and it draws the images together (docs/algorithms.md has these figures)."""
    assert marginals(transition, steps)[-1] == pytest.approx((0, share), abs=1e-3)


@pytest.mark.parametrize(
    "transition,first,last", [(flow_sde, 0.899, 0.838), (dance_sde, 0.816, 0.866), (cps, 0.815, 0.607)]
)
def test_a_window_of_4_of_25_steps(transition, first, last):
    """Euler without a window: 0.815. CPS at the last place draws the images together."""
    for start, share in ((0, first), (20, last)):
        assert marginals(transition, 25, window=range(start, start + 4))[-1] == pytest.approx((0, share), abs=1e-3)
    assert marginals(transition, 25, window=())[-1][1] == pytest.approx(0.815, abs=1e-3)


def test_flow_sdes_first_step_adds_eta_whatever_the_number_of_steps():
    x = torch.zeros(1, 1)
    stds = [flow_sde(x, x, 1.0, float(flow_sigmas(steps)[1]), 0.7)[1] for steps in (10, 25, 1000)]
    assert stds == pytest.approx([0.7] * 3, rel=1e-3)
    # Too much: the variance is off from there on, however small the steps are.
    assert [marginals(flow_sde, steps)[1][1] for steps in (25, 1000)] == pytest.approx([1.116, 1.095], abs=1e-3)


def test_which_clip_on_our_log_probability_is_others_1e_5_for_cps():
    """Theirs leaves out 1 / (2 s^2): theirs = 2 s^2 * ours, step by step. At eta .8 and 10 steps of shift 3."""

    def ours(sigmas):
        x = torch.zeros(1, 1)
        pairs = zip(sigmas[:-2].tolist(), sigmas[1:-1].tolist(), strict=True)
        return [1e-5 / (2 * cps(x, x, *pair, 0.8)[1] ** 2) for pair in pairs]

    even = ours(flow_sigmas(10))
    assert (even[0], even[-1]) == pytest.approx((0.594e-5, 8.845e-5), rel=1e-3)
    first_half = ours(diffusers_sigmas(10))[:5]
    assert (first_half[0], first_half[-1]) == pytest.approx((0.600e-5, 1.105e-5), rel=1e-3)
    # As often as a window of 3 at a random place in the first half holds each step.
    mean = sum(clip * times for clip, times in zip(first_half, (1, 2, 3, 2, 1), strict=True)) / 9
    assert preset("Few steps, no guidance").loss.clip_range == pytest.approx(mean, rel=0.03)
