"""Noise levels and windows by iteration, as the routes tell them: those of the rollouts."""

import itertools

import pytest
import torch

from mixgrpo_engine.training import experience
from tests.engine import toy

STRATEGIES = ("constant", "linear_decay", "exp_decay", "random", "frozen")


@pytest.mark.parametrize(
    ("strategy", "wrap", "stride", "interval"),
    itertools.product(STRATEGIES, (False, True), (1, 3), (1, 4)),
)
def test_moves_are_those_of_every_iteration(runs, room, strategy, wrap, stride, interval):
    for steps in (4, 5, 20):
        window = room("mixgrpo_engine.window").SlidingWindow(steps, 3, stride, interval, strategy, 5, wrap)
        moves = runs.denoising.window_moves(window, 150)
        told = dict(moves)
        place = None
        for iteration in range(150):
            place = told.get(iteration, place)
            assert place == window.at(iteration)
        assert all(one[1] != other[1] for one, other in itertools.pairwise(moves))


def test_long_runs_are_told_by_so_many_moves(runs, room):
    window = room("mixgrpo_engine.window").SlidingWindow(25, 4, 1, 100_000, "constant", wrap=True)
    assert runs.denoising.window_moves(window, 1_000_000) == [
        (100_000 * number, range(number, number + 4)) for number in range(10)
    ]
    window = room("mixgrpo_engine.window").SlidingWindow(25, 4, strategy="random")
    assert len(runs.denoising.window_moves(window, 1_000_000)) == runs.denoising.MOST


@pytest.mark.parametrize(("ratio", "shift"), [(1.0, 0.0), (0.4, 0.0), (0.4, 1.7)])
def test_every_rollout_takes_exactly_these_noise_levels(runs, tmp_path, monkeypatch, ratio, shift):
    taken, rollout = [], experience.rollout

    def keep(velocity, noise, sigmas, window, **options):
        taken.append((window, sigmas.tolist()))
        return rollout(velocity, noise, sigmas, window, **options)

    monkeypatch.setattr(experience, "rollout", keep)
    settings = toy.config(
        rollout={"steps": 9, "flash_ratio": ratio, "shift": shift},
        window={"size": 2, "interval": 2, "wrap": True},
        run={"iterations": 20, "evaluate_every": 0},
    )
    trainer = toy.make(tmp_path / "run", settings)
    trainer.run()
    # What the trainer's event `schedule` holds.
    event = {"sigmas": trainer.sampler.sigmas.tolist(), "flash_ratio": ratio, "shift": shift or trainer.policy.shift()}
    told = runs.denoising.told(event, settings.as_dict())
    assert told["sigmas"] == trainer.sampler.sigmas.tolist()
    starts = dict(map(tuple, told["starts"]))
    index, planned = None, []
    for iteration in range(20):
        index = starts.get(iteration, index)
        place = told["windows"][index]
        planned.append((range(place["start"], place["stop"]), place["sigmas"]))
    assert [each for each, _ in itertools.groupby(taken)] == [each for each, _ in itertools.groupby(planned)]
    assert len(taken) >= 20 and (ratio == 1 or len(planned[0][1]) < 10)
    assert torch.tensor(planned[0][1]).dtype == torch.float32


def test_a_schedule_that_does_not_fit_the_settings_is_damaged(runs):
    event = {"sigmas": [1.0, 0.0], "flash_ratio": 1.0, "shift": 3.0}
    with pytest.raises(ValueError, match="holds 2 noise levels for 25 steps"):
        runs.denoising.told(event, {})


def test_it_tells_whether_the_windows_steps_are_random(runs):
    event = {"sigmas": [0.0] * 26, "flash_ratio": 1.0, "shift": 3.0}
    nft = {"loss": {"surrogate": "nft"}, "rollout": {"shared_noise": False}}
    assert [runs.denoising.told(event, config)["random"] for config in ({}, nft)] == [True, False]
