"""The published settings: each preset is valid, and says what algorithm.md's section 3 says."""

import pytest

from mixgrpo_engine.config import TrainConfig
from mixgrpo_engine.presets import PRESETS, preset
from mixgrpo_engine.training.policy_update import trained_places


@pytest.mark.parametrize("name", PRESETS)
def test_is_valid(name):
    preset(name).validate()


def test_the_defaults_are_the_papers_for_flux():
    assert {**preset("MixGRPO").as_dict()} == TrainConfig.from_dict({"rollout": {"shift": 3.0}}).as_dict()
    c = preset("MixGRPO")
    assert (c.rollout.steps, c.rollout.eta, c.rollout.group_size, c.rollout.shared_noise) == (25, 0.7, 12, True)
    assert (c.window.strategy, c.window.size, c.window.interval, c.window.stride) == ("constant", 4, 25, 1)
    assert (c.loss.clip_range, c.loss.kl_weight, c.optimizer.updates) == (1e-4, 0.0, 4)


def test_sd35():
    c = preset("MixGRPO SD3.5")
    assert (c.rollout.steps, c.rollout.group_size, c.rollout.cfg) == (10, 24, 4.5)
    assert (c.optimizer.learning_rate, c.loss.kl_weight, c.window.size, c.window.interval) == (3e-4, 0.001, 4, 150)
    assert c.optimizer.ema_decay > 0


def test_flash_and_flash_star():
    flash, star = preset("MixGRPO-Flash"), preset("MixGRPO-Flash*")
    assert (flash.rollout.flash_ratio, flash.window.interval, flash.window.strategy) == (0.4, 20, "constant")
    assert (star.rollout.flash_ratio, star.window.strategy) == (0.2, "frozen")
    assert flash.rollout.tail_order == star.rollout.tail_order == 2


def test_dance_grpo_trains_14_of_25_steps():
    c = preset("DanceGRPO")
    window = c.sliding_window()
    assert {window.at(i) for i in range(50)} == {range(24)} and c.rollout.transition == "dance_sde"
    drawn = [trained_places(c, 24, iteration) for iteration in range(50)]
    assert all(len(places) == 14 == len(set(places)) and places == sorted(places) for places in drawn)
    assert len({tuple(places) for places in drawn}) > 40
    assert {place for places in drawn for place in places} == set(range(24))
    assert drawn == [trained_places(c, 24, iteration) for iteration in range(50)]


def test_flow_grpo_trains_every_step_and_fast_two_at_a_random_place():
    every, fast = preset("Flow-GRPO"), preset("Flow-GRPO-Fast")
    assert every.sliding_window().at(7) == range(9) and trained_places(every, 9, 3) == list(range(9))
    assert not every.rollout.shared_noise and every.loss.kl_space == "mean" and every.loss.kl_weight > 0
    starts = {fast.sliding_window().at(i).start for i in range(100)}
    assert starts == set(range(8)) and len(fast.sliding_window().at(0)) == 2


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="no preset 'PPO': choose MixGRPO, "):
        preset("PPO")
