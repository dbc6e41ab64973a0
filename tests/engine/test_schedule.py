import math
from fractions import Fraction

import pytest
import torch

from mixgrpo_engine.config import RolloutConfig
from mixgrpo_engine.presets import preset
from mixgrpo_engine.schedule import diffusers_sigmas, flash_sigmas, flash_steps, flow_sigmas
from mixgrpo_engine.training.experience import policy_sigmas


def test_flow_sigmas_known_values():
    torch.testing.assert_close(flow_sigmas(4, 1.0), torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0]))
    torch.testing.assert_close(flow_sigmas(2, 3.0), torch.tensor([1.0, 0.75, 0.0]))
    sigmas = flow_sigmas(25)
    assert sigmas.dtype == torch.float32 and sigmas[0] == 1 and sigmas[-1] == 0
    assert (sigmas.diff() < 0).all()


def test_diffusers_sigmas_are_those_of_its_scheduler():
    """For SD3's shift of 3 and 10 steps: 1, .960 ... .278, .0089, 0."""
    sigmas = diffusers_sigmas(10, 3.0)
    assert sigmas.dtype == torch.float32 and sigmas[0] == 1 and sigmas[-1] == 0 and len(sigmas) == 11
    assert sigmas[[1, 8, 9]].tolist() == pytest.approx([0.9601, 0.2780, 0.0089], abs=5e-5)
    scheduler = pytest.importorskip("diffusers").FlowMatchEulerDiscreteScheduler(shift=3.0)
    for steps in (1, 2, 10, 28):
        scheduler.set_timesteps(steps)
        torch.testing.assert_close(diffusers_sigmas(steps, 3.0), scheduler.sigmas, atol=1e-6, rtol=1e-6)


def test_a_policys_noise_levels_are_its_own_or_diffusers(toy):
    policy = toy.ToyPolicy()  # its own shift is 3
    for shift, expected in ((0.0, 3.0), (5.0, 5.0)):
        options = RolloutConfig(steps=6, shift=shift)
        assert torch.equal(policy_sigmas(policy, options), flow_sigmas(6, expected))
        options.spacing = "diffusers"
        assert torch.equal(policy_sigmas(policy, options), diffusers_sigmas(6, expected))


def test_a_run_samples_trains_and_evaluates_with_its_spacing(toy, tmp_path):
    trainer = toy.make(tmp_path / "run", toy.config(rollout={"spacing": "diffusers"}))
    assert torch.equal(trainer.sampler.rollout(0, range(1, 3), ["up"]).sigmas, diffusers_sigmas(6))
    seen = []
    trainer.module.register_forward_pre_hook(lambda module, arguments: seen.append(float(arguments[1])))
    trainer.sampler.sample(["up"], [0], "evaluate")
    assert seen == pytest.approx(diffusers_sigmas(6)[:-1].tolist())


def test_flash_makes_the_papers_number_of_calls():
    """Published: 16 an image on average over the run's windows, and 8 for Flash*; rounded up 17.0 and 9."""
    for name, published in (("MixGRPO-Flash", 16), ("MixGRPO-Flash*", 8)):
        config = preset(name)
        sigmas, window = flow_sigmas(config.rollout.steps), config.sliding_window()
        calls = [
            len(flash_sigmas(sigmas, window.at(iteration), config.rollout.flash_ratio)) - 1 for iteration in range(300)
        ]
        assert round(sum(calls) / 300) == published, name
        assert sum(calls) / 300 == pytest.approx({16: 16.2, 8: 8.0}[published])


@pytest.mark.parametrize("ratio", ["0.05", "0.2", "0.4", "0.5", "0.75", "1"])
@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("steps", [10, 25])
def test_flash_ends_at_zero_and_has_the_right_number_of_steps(ratio, size, steps):
    """l + w + n steps for every window start l, n = max(1, floor((T - l - w) * ratio))."""
    sigmas = flow_sigmas(steps)
    for start in range(steps - size):
        window = range(start, start + size)
        flash = flash_sigmas(sigmas, window, float(ratio))
        assert flash.dtype == torch.float32 and flash[-1] == 0
        assert len(flash) - 1 == start + size + max(1, math.floor((steps - start - size) * Fraction(ratio)))
        assert torch.equal(flash[: window.stop + 1], sigmas[: window.stop + 1])
        assert (flash.diff() < 0).all()


@pytest.mark.parametrize("shift", [1.0, 3.0, 5.0])
def test_flash_spaces_evenly_in_the_time_before_the_shift(shift):
    flash = flash_sigmas(flow_sigmas(20, shift), range(2, 5), 0.34, shift)
    time = flash / (shift - (shift - 1) * flash)
    # 15 of 20 steps are left, in time 0.75 to 0; floor(5.1) = 5 take their place.
    torch.testing.assert_close(time[5:], torch.tensor([0.75, 0.6, 0.45, 0.3, 0.15, 0.0]))


def test_flash_with_ratio_1_is_the_schedule_itself():
    sigmas = flow_sigmas(25)
    torch.testing.assert_close(flash_sigmas(sigmas, range(3, 7), 1.0), sigmas, atol=1e-6, rtol=1e-6)


def test_flash_steps_rounds_down_without_binary_surprises():
    assert [flash_steps(n, 0.4) for n in (1, 5, 10, 17, 21)] == [1, 2, 4, 6, 8]
    assert 50 * 0.58 < 29 and flash_steps(50, 0.58) == 29
    assert flash_steps(0, 0.4) == 0


@pytest.mark.parametrize("bad", [0.0, -0.5, 1.5])
def test_bad_ratio(bad):
    with pytest.raises(ValueError, match="ratio"):
        flash_sigmas(flow_sigmas(10), range(0, 4), bad)
