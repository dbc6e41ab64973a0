import pytest
import torch

from mixgrpo_engine.schedule import flow_sigmas
from mixgrpo_engine.solvers import DPMSolverPP
from mixgrpo_engine.transitions import euler


def run(solver, velocity, x, sigmas):
    solver.reset()
    for sigma, sigma_next in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True):
        x = solver.step(x, velocity(x, sigma), sigma, sigma_next)
    return x


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("variant", ["midpoint", "heun"])
def test_exact_for_a_constant_image(order, variant):
    x1, x0 = torch.randn(2, 4, generator=torch.Generator().manual_seed(0)), torch.full((2, 4), 0.7)
    sigmas = flow_sigmas(6)
    at_half = run(DPMSolverPP(order, variant), lambda x, s: (x - x0) / s, x1, sigmas[:4])
    s = float(sigmas[3])
    torch.testing.assert_close(at_half, (1 - s) * x0 + s * x1, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(run(DPMSolverPP(order, variant), lambda x, s: (x - x0) / s, x1, sigmas), x0)


def test_order_1_is_euler():
    x, v = torch.randn(2, 4), torch.randn(2, 4)
    torch.testing.assert_close(DPMSolverPP(1).step(x, v, 0.8, 0.6), euler(x, v, 0.8, 0.6), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("order,variant", [(1, "midpoint"), (2, "midpoint"), (2, "heun"), (3, "midpoint")])
def test_agrees_with_diffusers(order, variant):
    from diffusers import DPMSolverMultistepScheduler

    def velocity(x, sigma):
        return torch.sin(3 * x) - x * sigma + 0.3

    scheduler = DPMSolverMultistepScheduler(
        solver_order=order,
        solver_type=variant,
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        flow_shift=3.0,
        algorithm_type="dpmsolver++",
        lower_order_final=False,
    )
    scheduler.set_timesteps(12)
    sigmas = scheduler.sigmas.clone()
    start = x = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    for timestep, sigma in zip(scheduler.timesteps, sigmas[:-1].tolist(), strict=True):
        x = scheduler.step(velocity(x, sigma), timestep, x).prev_sample
    torch.testing.assert_close(run(DPMSolverPP(order, variant), velocity, start, sigmas), x, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("order,variant", [(2, "midpoint"), (2, "heun"), (3, "midpoint")])
def test_the_step_from_pure_noise_says_nothing_of_a_slope(order, variant):
    """At sigma = 1 lambda is infinite: the solver begins as if it had started after that step."""

    def velocity(x, sigma):
        return torch.sin(3 * x) - x * sigma + 0.3

    start = torch.linspace(-1, 1, 9)[None]
    sigmas = flow_sigmas(8)[:-2]
    second = euler(start, velocity(start, 1.0), 1.0, float(sigmas[1]))
    expected = run(DPMSolverPP(order, variant), velocity, second, sigmas[1:])
    torch.testing.assert_close(run(DPMSolverPP(order, variant), velocity, start, sigmas), expected)


def test_higher_orders_are_more_accurate():
    def velocity(x, sigma):
        return torch.sin(3 * x) + sigma

    start = torch.linspace(-1, 1, 9)[None]
    sigmas = flow_sigmas(400, 1.0)[20:381]  # inside (0, 1): every step has full order
    exact = run(DPMSolverPP(3), velocity, start, sigmas)
    errors = [float((run(DPMSolverPP(o), velocity, start, sigmas[::24]) - exact).abs().max()) for o in (1, 2, 3)]
    assert errors[0] > 3 * errors[1] > 3 * errors[2]


def test_reset_forgets_the_history():
    x, v = torch.randn(2, 4), torch.randn(2, 4)
    solver = DPMSolverPP(2)
    solver.step(x, 2 * v, 0.9, 0.8)
    with_history = solver.step(x, v, 0.8, 0.6)
    solver.reset()
    without = solver.step(x, v, 0.8, 0.6)
    assert not torch.allclose(with_history, without)
    torch.testing.assert_close(without, euler(x, v, 0.8, 0.6), atol=1e-6, rtol=1e-5)
