import pytest
import torch

from mixgrpo_engine.rollout import join, rollout, sample_ode
from mixgrpo_engine.schedule import flash_sigmas, flow_sigmas
from mixgrpo_engine.solvers import DPMSolverPP
from mixgrpo_engine.transitions import TRANSITIONS, log_prob

SETTINGS = dict(transition="flow_sde", eta=0.7)


class Field:
    """A velocity field in which rows don't interact, that counts what it is asked for."""

    def __init__(self):
        self.batches = []

    def __call__(self, latents, sigma):
        self.batches.append((len(latents), sigma))
        return torch.sin(2 * latents) + sigma * latents


def noise(rows, seed=0):
    return torch.randn(rows, 3, 2, 2, generator=torch.Generator().manual_seed(seed))


def seeded():
    return torch.Generator().manual_seed(5)


def test_shapes_and_what_is_kept():
    trajectory = rollout(Field(), noise(2), flow_sigmas(10), range(3, 7), group_size=6, generator=seeded(), **SETTINGS)
    assert trajectory.latents.shape == (12, 3, 2, 2)
    assert trajectory.states.shape == (5, 12, 3, 2, 2)
    assert trajectory.log_probs.shape == (4, 12)
    assert trajectory.window == range(3, 7)


def test_shared_prefix_runs_once_a_prompt():
    field = Field()
    trajectory = rollout(field, noise(2), flow_sigmas(10), range(3, 7), group_size=6, generator=seeded(), **SETTINGS)
    # The window's first step too: the images differ only once its noise is drawn.
    assert [size for size, _ in field.batches] == [2] * 4 + [12] * 6
    assert trajectory.forwards == 4 * 2 + 6 * 12
    separate = rollout(Field(), noise(12), flow_sigmas(10), range(3, 7), group_size=6, generator=seeded(), **SETTINGS)
    assert separate.forwards == 10 * 12


@pytest.mark.parametrize("start", [0, 2, 5])
def test_shared_prefix_equals_an_unshared_one_bit_for_bit(start):
    window, sigmas = range(start, start + 4), flow_sigmas(10)
    first = noise(1)
    shared = rollout(Field(), first, sigmas, window, group_size=4, generator=seeded(), **SETTINGS)
    apart = rollout(
        lambda x, s: torch.cat([Field()(row[None], s) for row in x]),
        first.repeat(4, 1, 1, 1),
        sigmas,
        window,
        group_size=4,
        generator=seeded(),
        **SETTINGS,
    )
    assert torch.equal(shared.latents, apart.latents)
    assert torch.equal(shared.states, apart.states)
    assert torch.equal(shared.log_probs, apart.log_probs)


def test_joined_parts_equal_the_whole():
    window, sigmas = range(2, 5), flow_sigmas(8)

    def run(starts, first):
        generators = [torch.Generator().manual_seed(first + image) for image in range(len(starts) * 3)]
        return rollout(
            Field(), starts, sigmas, window, group_size=3, generator=generators, shared_noise=True, keep_means=True,
            **SETTINGS,
        )  # fmt: skip

    starts = noise(2)
    whole, parts = run(starts, 0), join([run(starts[:1], 0), run(starts[1:], 3)])
    for name in ("latents", "states", "log_probs", "means"):
        assert torch.equal(getattr(whole, name), getattr(parts, name)), name
    assert parts.forwards == whole.forwards and parts.shared_noise


def test_means_are_kept_when_asked_for():
    window, sigmas = range(1, 4), flow_sigmas(8)
    trajectory = rollout(
        Field(), noise(1), sigmas, window, group_size=3, generator=seeded(), keep_means=True, **SETTINGS
    )
    step = sigmas[2:4].tolist()
    before = trajectory.states[1]
    expected, _ = TRANSITIONS[SETTINGS["transition"]](before, Field()(before, step[0]), *step, SETTINGS["eta"])
    assert torch.equal(trajectory.means[1], expected)


def test_means_are_not_kept_unless_asked_for():
    assert rollout(Field(), noise(1), flow_sigmas(8), range(1, 4), group_size=3, **SETTINGS).means is None


def test_half_precision_noise_is_sampled_in_float32():
    def field(latents, sigma):
        assert latents.dtype == torch.float32
        return Field()(latents, sigma).half()

    trajectory = rollout(field, noise(1).half(), flow_sigmas(8), range(0, 3), group_size=3, **SETTINGS)
    assert trajectory.states.dtype == trajectory.latents.dtype == torch.float32


def test_says_explicitly_when_the_number_of_rows_is_ambiguous():
    trajectory = rollout(
        Field(), noise(4), flow_sigmas(6), range(1, 3), group_size=2, shared_noise=True, generator=seeded(), **SETTINGS
    )
    assert len(trajectory.latents) == 8


def test_images_of_a_group_differ_only_from_the_window_on():
    trajectory = rollout(Field(), noise(1), flow_sigmas(8), range(3, 5), group_size=3, generator=seeded(), **SETTINGS)
    assert torch.equal(trajectory.states[0, 0], trajectory.states[0, 2])
    assert not torch.equal(trajectory.states[1, 0], trajectory.states[1, 2])


@pytest.mark.parametrize("transition", list(TRANSITIONS))
def test_log_probs_are_those_of_the_states(transition):
    window, sigmas = range(1, 4), flow_sigmas(8)
    trajectory = rollout(
        Field(), noise(1), sigmas, window, group_size=3, generator=seeded(), transition=transition, eta=0.5
    )
    for place, step in enumerate(window):
        before, after = trajectory.states[place], trajectory.states[place + 1]
        sigma = float(sigmas[step])
        mean, std = TRANSITIONS[transition](before, Field()(before, sigma), sigma, float(sigmas[step + 1]), 0.5)
        assert torch.equal(trajectory.log_probs[place], log_prob(after, mean, std))


def test_tail_is_the_ode_from_the_windows_last_state():
    sigmas, window = flow_sigmas(10), range(2, 5)
    trajectory = rollout(Field(), noise(1), sigmas, window, group_size=3, generator=seeded(), **SETTINGS)
    assert torch.equal(trajectory.latents, sample_ode(Field(), trajectory.states[-1], sigmas[5:]))


@pytest.mark.parametrize("order,variant", [(2, "midpoint"), (2, "heun"), (3, "midpoint")])
def test_the_tail_is_the_solvers(order, variant):
    sigmas, window = flow_sigmas(10), range(2, 5)
    settings = dict(group_size=3, tail=DPMSolverPP(order, variant), generator=seeded(), **SETTINGS)
    trajectory = rollout(Field(), noise(1), sigmas, window, **settings)
    latents, solver = trajectory.states[-1], DPMSolverPP(order, variant)
    for sigma, sigma_next in zip(sigmas[5:-1].tolist(), sigmas[6:].tolist(), strict=True):
        latents = solver.step(latents, Field()(latents, sigma), sigma, sigma_next)
    assert torch.equal(trajectory.latents, latents)
    assert not torch.equal(latents, sample_ode(Field(), trajectory.states[-1], sigmas[5:]))


def test_the_tail_solver_forgets_what_was_before_the_window():
    sigmas, window = flow_sigmas(10), range(2, 5)
    used = DPMSolverPP(2)
    used.step(noise(3), noise(3, 1), 0.9, 0.8)
    settings = dict(group_size=3, **SETTINGS)
    one = rollout(Field(), noise(1), sigmas, window, tail=used, generator=seeded(), **settings)
    other = rollout(Field(), noise(1), sigmas, window, tail=DPMSolverPP(2), generator=seeded(), **settings)
    assert torch.equal(one.latents, other.latents)


def test_flash_runs_fewer_steps_and_reaches_sigma_0():
    field, window = Field(), range(0, 4)
    sigmas = flash_sigmas(flow_sigmas(25), window, 0.2)
    rollout(field, noise(1), sigmas, window, group_size=2, tail=DPMSolverPP(2), generator=seeded(), **SETTINGS)
    assert len(field.batches) == 4 + 4
    assert sigmas[-1] == 0


@pytest.mark.parametrize("window", [range(0, 0), range(6, 10), range(8, 11)])
def test_window_must_fit_before_the_last_step(window):
    with pytest.raises(ValueError, match="window"):
        rollout(Field(), noise(1), flow_sigmas(10), window, group_size=2, **SETTINGS)
