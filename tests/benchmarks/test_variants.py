"""The compared algorithms are what their names say, and cost what they must."""

import pytest
import torch

from benchmarks import cost, variants
from benchmarks.single_steps import SingleSteps
from mixgrpo_engine import seeds
from mixgrpo_engine.training.update_plan import trained_places
from tests.benchmarks.conftest import GROUP, IMAGES, PROMPTS, UPDATES


def test_sizes_are_the_demos(demo):
    for variant in variants.COST:
        config = variant.settings(demo.settings)
        assert (config.rollout.steps, config.rollout.group_size, config.rollout.prompts_per_iteration) == (25, 12, 4)
        assert (config.optimizer.updates, config.adapter.rank, config.run.width, config.run.height) == (4, 16, 64, 64)
        assert (config.rollout.cfg, config.loss.kl_weight, config.optimizer.ema_decay) == (1, 0, 0)
        assert config.optimizer.learning_rate == demo.settings.optimizer.learning_rate == 5e-4


def test_algorithms_are_the_presets(demo):
    dance, flow, nft, unshared, mix, flash, star = (variant.settings(demo.settings) for variant in variants.COST)
    assert (dance.rollout.transition, dance.window.size, dance.window.trained_share) == ("dance_sde", 0, 0.6)
    assert len(trained_places(dance, 24, 0)) == 14
    assert (flow.rollout.transition, flow.window.size, flow.window.trained_share) == ("flow_sde", 0, 1)
    assert not flow.rollout.shared_noise and mix.rollout.shared_noise
    assert (mix.window.size, mix.window.strategy, mix.rollout.flash_ratio) == (4, "constant", 1)
    assert unshared == mix
    assert (nft.loss.surrogate, nft.window.size, nft.rollout.tail_order, nft.rollout.shared_noise) == (
        "nft",
        0,
        2,
        False,
    )
    assert (flash.rollout.flash_ratio, flash.rollout.tail_order, flash.window) == (0.4, 2, mix.window)
    assert (star.rollout.flash_ratio, star.rollout.tail_order, star.window.strategy) == (0.2, 2, "frozen")


# Image-forwards of a rollout, an image, at 8 steps with a window of 4: what a group shares counts a third.
ROLLOUT = {
    variants.DANCE_GRPO: [1 / 3 + 7] * 2,
    variants.FLOW_GRPO: [8] * 2,
    variants.NFT: [8 + 7] * 2,  # the old policy once more at each noise level
    variants.UNSHARED: [8] * 2,
    variants.MIX_GRPO: [1 / 3 + 7, 2 / 3 + 6],
    variants.FLASH: [1 / 3 + 3 + 1, 2 / 3 + 3 + 1],  # 0.4 of 4 and of 3 steps, rounded down
    variants.FLASH_STAR: [1 / 3 + 3 + 1] * 2,
}


@pytest.mark.parametrize("variant", variants.COST, ids=lambda variant: variant.name)
def test_forwards_of_an_iteration(variant, small, tmp_path):
    config = cost.settings(variant, small.settings, stride=1)
    measured = cost.Measured(small, variant, config, tmp_path / "run")
    for iteration, rollout in enumerate(ROLLOUT[variant]):
        sample = measured.sample()
        assert sample["forwards"]["rollout"] == pytest.approx(rollout)
        assert sample["forwards"]["update"] == pytest.approx(update_forwards(variant, config, iteration))


def update_forwards(variant, config, iteration) -> float:
    """An image: one a trained step, but the window's first step, if a group shares it, once a prompt."""
    places = trained_places(config, config.window.size or 7, iteration)
    if variant.own_copies or not config.rollout.shared_noise or 0 not in places:
        return len(places)
    return len(places) - 1 + sum(prompts_of_minibatches(iteration)) / IMAGES


def prompts_of_minibatches(iteration) -> list[int]:
    """How many different prompts each minibatch holds."""
    order = torch.randperm(IMAGES, generator=seeds.generator(0, "minibatches", iteration))
    return [len(set((rows // GROUP).tolist())) for rows in order.tensor_split(UPDATES)]


def test_bare_work_is_the_calls_of_the_iteration(small, tmp_path):
    measured = cost.Measured(small, variants.MIX_GRPO, cost.settings(variants.MIX_GRPO, small.settings, 1), tmp_path)
    measured.sample()
    adapter = [parameter.clone() for parameter in measured.trainer.parameters]
    made, backward = [], []

    def note(_module, args, output):
        made.append((len(args[0]), torch.is_grad_enabled()))
        if output.requires_grad:
            output.register_hook(lambda gradient: backward.append(len(gradient)))

    measured.trainer.iteration = 1  # the window at 1
    with measured.denoiser.recording():
        measured.trainer.step()
    hook = measured.denoiser.module.register_forward_hook(note)
    measured.denoiser.repeat()
    hook.remove()

    rollout = [(PROMPTS, False)] * 2 + [(IMAGES, False)] * 6
    # The demo joins a minibatch's steps in one call: the first step's prompts, and its images at the other three.
    update = [(count + 3 * IMAGES // UPDATES, True) for count in prompts_of_minibatches(1)]
    assert made == rollout + update
    assert backward == [count for count, gradient in made if gradient]
    # It leaves the training alone.
    for parameter, before in zip(measured.trainer.parameters, adapter, strict=True):
        assert parameter.grad is None
        torch.testing.assert_close(parameter, before, atol=1e-5, rtol=0)
    assert measured.vae.calls == [(IMAGES // PROMPTS, False)] * PROMPTS


def test_own_copies_are_the_same_images(small, tmp_path):
    trainers = [
        SingleSteps(small, variant.settings(small.settings), tmp_path / variant.name, own_copies=variant.own_copies)
        for variant in (variants.MIX_GRPO, variants.UNSHARED)
    ]
    prompts = small.prompts.train[:PROMPTS]
    shared, own = (trainer.sampler.rollout(0, range(2, 6), prompts) for trainer in trainers)
    torch.testing.assert_close(own.latents, shared.latents, atol=1e-4, rtol=0)
    torch.testing.assert_close(own.log_probs, shared.log_probs, atol=1e-4, rtol=0)
    # 3 steps are shared: 2 before the window and its first.
    assert (shared.forwards, own.forwards) == (3 * PROMPTS + 5 * IMAGES, 8 * IMAGES)
