"""Sampling and scoring: overlap, Flash's schedule, scorers that fail."""

import threading

import pytest
import torch

from mixgrpo_engine.experience import score_images


def test_a_part_is_scored_while_the_next_one_is_sampled(toy, tmp_path):
    """The first part's scorer waits for the second part's rollout: without overlap it would wait for ever."""
    second = threading.Event()

    class Waits(toy.ToyReward):
        def score(self, images, prompts):
            assert second.wait(30), "the second part wasn't sampled while the first one was scored"
            return super().score(images, prompts)

    trainer = toy.make(tmp_path / "run", toy.config(rollout={"batch_size": 6}, run={"evaluate_every": 0}), Waits())
    rollout = trainer.sampler.rollout

    def watched(iteration, window, condition, first):
        if first == 1:
            second.set()
        return rollout(iteration, window, condition, first)

    trainer.sampler.rollout = watched
    assert len(trainer.sampler.collect(0, range(1, 3), ["up", "down"]).rewards["toy"]) == 12


def test_flash_re_spaces_with_the_models_shift_and_saves_forwards(toy, tmp_path):
    flash = toy.make(tmp_path / "run", toy.config(rollout={"flash_ratio": 0.4, "tail_order": 2}))
    trajectory = flash.sampler.rollout(0, range(1, 3), flash.policy.condition(["up", "down"]))
    assert trajectory.forwards == 2 * 2 + (1 + 2) * 12  # of the 3 steps after the window, ceil(1.2) = 2 are left
    time_left = trajectory.sigmas / (3 - 2 * trajectory.sigmas)  # shift 3 undone: evenly spaced
    torch.testing.assert_close(time_left[3:], time_left[3] * torch.tensor([1.0, 0.5, 0.0]))


def test_a_scorer_that_fails_on_everything_stops_the_run_with_one_sentence(toy, tmp_path):
    class Broken:
        name = "broken"

        def score(self, images, prompts):
            return torch.full((len(images),), float("nan"))

    with pytest.raises(RuntimeError, match="'broken' could score none of the 12 images"):
        toy.make(tmp_path / "run", toy.config(run={"evaluate_every": 0}), reward=Broken()).run()


def test_one_bad_prompt_does_not_end_the_run(toy, tmp_path):
    class Picky(toy.ToyReward):
        name = "picky"

        def score(self, images, prompts):
            scores = super().score(images, prompts)
            return torch.where(torch.tensor([p == "down" for p in prompts]), torch.nan, scores)

    trainer = toy.make(tmp_path / "run", toy.config(rollout={"prompts_per_iteration": 1}), reward=Picky())
    assert trainer.run() == "finished"
    assert "could score none" in toy.events(trainer, "notice")[0]["message"]


def test_a_scorer_of_the_wrong_length_is_named(toy, tmp_path):
    class Mean(toy.ToyReward):
        def score(self, images, prompts):
            return super().score(images, prompts).mean()

    with pytest.raises(RuntimeError, match="one an image"):
        toy.make(tmp_path / "run", toy.config(run={"evaluate_every": 0}), reward=Mean()).run()


def test_an_image_that_is_not_finite_has_no_score(toy):
    images = torch.zeros(6, 2, 2, 3)
    images[2, 0, 0, 0] = float("inf")
    scores = score_images({"toy": toy.ToyReward()}, images, ["up"] * 6)["toy"]
    assert scores.isnan().tolist() == [False, False, True, False, False, False]
