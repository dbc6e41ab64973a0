"""Part A's sweep and its summary."""

import dataclasses

import pytest
import torch

from benchmarks import cost, variants


def test_a_sweep_visits_every_place_once(demo):
    config = cost.settings(variants.MIX_GRPO, demo.settings, stride=1)
    assert cost.sweep_length(config) == 21
    assert cost.sweep_length(cost.settings(variants.MIX_GRPO, demo.settings, stride=10)) == 3


def test_nothing_happens_beside_the_iterations(demo):
    config = cost.settings(variants.FLASH, demo.settings, stride=1)
    assert config.run.evaluate_every == 0
    assert config.optimizer.learning_rate < 1e-3 * demo.settings.optimizer.learning_rate


def test_every_image_has_an_advantage(demo):
    from mixgrpo_engine.advantage import group_advantages

    images = torch.zeros(24, 64, 64, 3)
    scores = cost.AlwaysDifferent().score(images, ["a red circle"] * 24)
    assert bool((group_advantages({"shapes": scores}, 12) != 0).all())


def test_variants_take_turns_and_repeats_sweep_again(small):
    two = (variants.DANCE_GRPO, variants.FLASH)
    samples = cost.measure(small, repeats=2, stride=3, variants=two)
    assert [sample["variant"] for sample in samples] == ["DanceGRPO", "MixGRPO-Flash", "MixGRPO-Flash", "DanceGRPO"] * 2
    flash = [sample for sample in samples if sample["variant"] == "MixGRPO-Flash"]
    assert [(s["repeat"], s["window"]) for s in flash] == [(0, [0, 4]), (0, [3, 7]), (1, [0, 4]), (1, [3, 7])]
    for sample in samples:
        parts = [sample["seconds"][phase] for phase in cost.PHASES]
        assert sum(parts) == pytest.approx(sample["seconds"]["iteration"]) and min(parts[:3]) > 0
        assert min(sample["bare"].values()) > 0


def test_summary_by_hand(sample):
    samples = [
        sample("DanceGRPO", 0, 8.0, 2.0), sample("MixGRPO", 0, 2.0), sample("MixGRPO", 0, 4.0),
        sample("DanceGRPO", 1, 8.0, 2.0), sample("MixGRPO", 1, 4.0), sample("MixGRPO", 1, 4.0),
    ]  # fmt: skip
    dance, mix = cost.summarise(samples)
    assert dance["ratio"] == {"mean": 1, "low": 1, "high": 1}
    assert mix["seconds"]["iteration"] == {"mean": 3.5, "low": 3, "high": 4}
    assert mix["seconds"]["rollout"] == {"mean": 1.75, "low": 1.5, "high": 2}
    assert mix["ratio"] == mix["paper_ratio"] == {"mean": 0.4375, "low": 0.375, "high": 0.5}
    assert mix["forwards"] == {"rollout": 10, "update": 3.5}
    assert mix["overhead"]["denoiser"] == {"median": 4, "low": 3.5, "high": 4}
    assert dance["overhead"]["denoiser_and_vae"]["median"] == 2


def test_the_papers_own_iterations_end_at_its_twelfth_place(sample):
    reference = [sample("DanceGRPO", 0, 8.0)] * 2
    early, last, late = (sample("MixGRPO", 0, seconds) | {"window": [start, start + 4]}
                         for start, seconds in ((0, 2.0), (11, 4.0), (12, 6.0)))  # fmt: skip
    _, mix = cost.summarise([*reference, early, last, late])
    assert (mix["ratio"]["mean"], mix["paper_ratio"]["mean"]) == (0.5, 0.375)


def test_calls_of_one_module_don_t_mix(small, tmp_path):
    """All variants share the VAE: a recording holds its own iteration's calls only."""
    config = cost.settings(variants.FLASH, small.settings, stride=1)
    config = dataclasses.replace(config, optimizer=dataclasses.replace(config.optimizer, updates=1))
    one, other = (cost.Measured(small, variants.FLASH, config, tmp_path / name) for name in ("a", "b"))
    one.sample()
    calls = list(one.denoiser.calls)
    other.sample()
    assert one.denoiser.calls == calls and one.vae.calls == other.vae.calls == [(3, False)] * 2
