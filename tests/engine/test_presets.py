"""The published settings: each preset is valid, and says what algorithm.md's section 3 says."""

import dataclasses

import pytest

from mixgrpo_engine import lora
from mixgrpo_engine.config import AdapterConfig, LossConfig, RolloutConfig, WindowConfig
from mixgrpo_engine.presets import PRESETS, preset
from mixgrpo_engine.training.update_plan import trained_places


@pytest.mark.parametrize("name", PRESETS)
def test_is_valid(name):
    preset(name).validate()


def test_the_defaults_are_the_papers_for_flux():
    c = preset("MixGRPO")
    assert (c.rollout, c.window) == (RolloutConfig(shift=3.0), WindowConfig())
    assert c.loss == LossConfig(kl_mask_threshold=1e-5)
    assert (c.rollout.steps, c.rollout.eta, c.rollout.group_size, c.rollout.shared_noise) == (25, 0.7, 12, True)
    assert (c.window.strategy, c.window.size, c.window.interval, c.window.stride) == ("constant", 4, 25, 1)
    assert (c.loss.clip_range, c.loss.kl_weight, c.optimizer.updates) == (1e-4, 0.0, 4)


@pytest.mark.parametrize("name", PRESETS)
def test_lora_and_learning_rate_belong_together(name):
    """alpha / rank times the rate is the size of a weight's first steps: 6e-4 in all published LoRA recipes but one."""
    c = preset(name)
    assert (c.adapter.rank, c.adapter.alpha) == (32, 64)
    assert c.optimizer.learning_rate == (1e-4 if name == "GRPO-Guard" else 3e-4)
    assert AdapterConfig().alpha == 0, "what tells old runs apart"


def test_attention_only():
    names = [f"joint_blocks.0.x_block.{layer}" for layer in ("attn.qkv", "attn.proj", "attn2.qkv", "mlp.fc1")]
    for name in (
        "MixGRPO SD3.5 UniRL",
        "Flow-GRPO",
        "Flow-GRPO-Fast",
        "Few steps, no guidance",
        "Flow-DPPO",
        "DiffusionNFT",
    ):
        assert lora._chosen(names, preset(name).adapter) == names[:2]
    for layer in ("layers.0.attention.qkv", "blocks.0.block.attn1.to_q", "blocks.0.self_attn.q"):  # other families
        assert lora._chosen([layer], preset("Flow-GRPO").adapter) == [layer]
    assert preset("MixGRPO SD3.5").adapter.targets == preset("MixGRPO").adapter.targets == ""


def test_sd35():
    c = preset("MixGRPO SD3.5")
    assert c.loss.kl_space == "flow_grpo"
    assert (c.rollout.steps, c.rollout.group_size, c.rollout.cfg) == (10, 24, 4.5)
    assert (c.optimizer.learning_rate, c.loss.kl_weight, c.window.size, c.window.interval) == (3e-4, 0.001, 4, 150)
    assert c.optimizer.ema_decay > 0


def test_sd35_as_the_authors_later_recipe():
    c = preset("MixGRPO SD3.5 UniRL")
    assert (c.rollout.steps, c.rollout.group_size, c.rollout.cfg, c.rollout.shared_noise) == (10, 16, 1.0, True)
    assert (c.window.size, c.window.interval, c.window.wrap, c.loss.spread) == (4, 25, True, "iteration")
    assert (c.loss.kl_weight, c.loss.clip_range, c.optimizer.updates, c.optimizer.ema_decay) == (0, 1e-4, 2, 0)
    starts = [c.sliding_window().at(iteration).start for iteration in range(0, 175, 25)]
    assert starts == [0, 1, 2, 3, 4, 5, 0]


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


def test_dance_grpos_own_takes_16_steps():
    own, papers = preset("DanceGRPO 16 steps"), preset("DanceGRPO")
    assert (own.rollout.steps, papers.rollout.steps) == (16, 25)
    assert (own.rollout.eta, own.rollout.transition, own.window.trained_share) == (0.3, "dance_sde", 0.6)
    assert len(trained_places(own, 15, 0)) == 9


def test_flow_grpo_trains_every_step_and_fast_two_at_a_random_place():
    every, fast = preset("Flow-GRPO"), preset("Flow-GRPO-Fast")
    assert every.sliding_window().at(7) == range(9) and trained_places(every, 9, 3) == list(range(9))
    assert not every.rollout.shared_noise and fast.rollout.shared_noise
    assert (every.loss.kl_space, every.loss.kl_weight, fast.loss.kl_weight) == ("flow_grpo", 0.01, 0)
    assert (every.loss.clip_range, fast.loss.clip_range) == (1e-4, 1e-5)
    assert (every.rollout.eta, fast.rollout.eta) == (0.7, 0.8)
    for c in (every, fast):
        assert (c.rollout.spacing, c.loss.spread, c.optimizer.updates) == ("diffusers", "iteration", 2)
        # .9 every 8 updates, which are 4 iterations.
        assert c.optimizer.ema_decay**4 == pytest.approx(0.9, abs=2e-4)
    starts = {fast.sliding_window().at(i).start for i in range(100)}
    assert starts == set(range(8)) and len(fast.sliding_window().at(0)) == 2


def test_few_steps_without_guidance():
    c = preset("Few steps, no guidance")
    assert (c.rollout.transition, c.rollout.eta, c.rollout.cfg, c.rollout.group_size) == ("cps", 0.8, 1.0, 18)
    assert (c.loss.kl_weight, c.optimizer.updates, c.window.size) == (0, 2, 3)
    ends = {c.sliding_window().at(i).stop for i in range(100)}
    assert ends == {3, 4, 5}, "the first half of 10 steps"


def test_grpo_guard():
    c = preset("GRPO-Guard")
    assert (c.loss.surrogate, c.loss.clip_range, c.loss.kl_weight) == ("ratio_norm", 4e-6, 0)
    assert (c.loss.spread, c.optimizer.learning_rate, c.window.size) == ("group", 1e-4, 0)


def test_flow_dppo():
    c = preset("Flow-DPPO")
    assert (c.loss.surrogate, c.loss.kl_mask_threshold, c.loss.spread) == ("kl_mask", 1e-5, "iteration")
    assert (c.rollout.eta, c.rollout.cfg, c.rollout.group_size, c.rollout.shared_noise) == (0.7, 1.0, 16, False)
    assert (c.window.size, c.window.max_start, c.window.strategy) == (3, 2, "random")
    assert (c.optimizer.updates, c.optimizer.weight_decay) == (2, 0)


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="no preset 'PPO': choose MixGRPO, "):
        preset("PPO")


def test_diffusion_nft():
    c = preset("DiffusionNFT")
    assert (c.loss.surrogate, c.loss.nft_beta, c.loss.old_decay, c.loss.old_decay_growth) == ("nft", 1, 0.5, 0.001)
    assert (c.loss.spread, c.loss.advantage_clip, c.loss.kl_weight, c.loss.kl_space) == (
        "iteration",
        5,
        1e-4,
        "velocity",
    )
    assert (c.rollout.steps, c.rollout.group_size, c.rollout.prompts_per_iteration, c.rollout.cfg) == (10, 24, 6, 1)
    assert (c.rollout.spacing, c.rollout.tail_order, c.rollout.tail_variant) == ("diffusers", 2, "midpoint")
    assert (c.optimizer.updates, c.optimizer.ema_decay, len(trained_places(c, c.window_size, 0))) == (1, 0.9, 9)


def test_temp_flow_grpo_branches_at_one_step():
    c, flow = preset("TempFlow-GRPO"), preset("Flow-GRPO")
    assert (c.window.size, c.window.strategy, c.rollout.shared_noise) == (1, "random", True)
    assert c.loss == dataclasses.replace(flow.loss, step_weights="noise")
    assert c.rollout == dataclasses.replace(flow.rollout, shared_noise=True)
