"""What the update descends: ratios that start at 1, the equations' gradient, and what surrogates and KL make of it."""

import pytest
import torch

from mixgrpo_engine.objective import (
    kl_mask_loss,
    mean_kl,
    mean_squared_shift,
    policy_loss,
    ratio_norm_loss,
    velocity_kl,
)
from mixgrpo_engine.training.policy_update import Minibatch
from mixgrpo_engine.transitions import TRANSITIONS, log_prob


@pytest.mark.parametrize(
    "changes",
    [
        dict(),
        dict(rollout={"transition": "cps"}),
        dict(rollout={"transition": "dance_sde"}),
        dict(rollout={"shared_noise": False}),
        dict(rollout={"batch_size": 5}, optimizer={"updates": 1, "batch_size": 4}),
        dict(loss={"surrogate": "ratio_norm", "kl_weight": 0.1}),
        dict(optimizer={"updates": 1, "ema_decay": 0.5}),
    ],
)
def test_ratio_is_1_before_the_first_update(toy, tmp_path, changes):
    """With one update an iteration, every ratio is one of before the first update: rollout and update must agree."""
    trainer = toy.make(tmp_path / "run", toy.config(**{"optimizer": {"updates": 1}, **changes}))
    trainer.run()
    assert max(event["ratio_deviation"] for event in toy.events(trainer, "iteration")) < 1e-5
    assert max(float(value.abs().max()) for value in toy.adapter(trainer).values()) > 0.05


def test_the_update_finds_the_rollouts_log_probs(toy, tmp_path):
    trainer = toy.make(tmp_path / "run")
    condition = trainer.policy.condition(["up", "down"])
    trajectory = trainer.sampler.rollout(0, range(1, 3), ["up", "down"])
    rows = torch.arange(12)
    for place in range(2):
        minibatch = Minibatch(trajectory, condition, torch.ones(12), rows, [place], 12)
        (states,) = trainer.updates.split_into_calls(minibatch, 12)
        velocity = trainer.updates.velocity(minibatch, states)
        here = torch.tensor([state.row for state in states])
        mean, std = trainer.updates.step_mean(minibatch, place, here, velocity)
        new = log_prob(trajectory.states[place + 1, here], mean.detach(), std)
        torch.testing.assert_close(new, trajectory.log_probs[place, here], atol=1e-6, rtol=0)


def test_ratio_leaves_1_with_the_second_update(toy, tmp_path):
    trainer = toy.make(tmp_path / "run")
    trainer.run()
    assert min(event["ratio_deviation"] for event in toy.events(trainer, "iteration")) > 1e-3


def term(trainer, trajectory, condition, advantages, place, row):
    """One image's term of the loss at one window step, by the equations, and its ratio and KL."""
    rollout, options, image = trainer.config.rollout, trainer.config.loss, [row]
    sigma, sigma_next = trajectory.sigmas[trajectory.window[place] :][:2].tolist()
    before, after, old = trajectory.states[place, image], trajectory.states[place + 1, image], trajectory.log_probs
    prompt, advantage, old = condition.select([row // rollout.group_size]), advantages[image], old[place, image]

    def step(velocity):
        return TRANSITIONS[rollout.transition](before, velocity, sigma, sigma_next, rollout.eta)

    velocity = trainer.module(before, sigma, prompt)
    mean, std = step(velocity)
    new = log_prob(after, mean, std)
    if options.surrogate == "clip":
        loss = policy_loss(new, old, advantage, options.clip_range)
    else:
        shift = mean_squared_shift(mean, trajectory.means[place, image])
        if options.surrogate == "kl_mask":
            loss = kl_mask_loss(new, old, shift, std, advantage, options.kl_mask_threshold)
        else:
            loss = ratio_norm_loss(new, old, shift, std, sigma - sigma_next, advantage, options.clip_range)
    with torch.no_grad(), trainer.policy.base():
        base = trainer.module(before, sigma, prompt)
    kl = velocity_kl(velocity, base) if options.kl_space == "velocity" else mean_kl(mean, step(base)[0], std)
    if options.kl_space == "flow_grpo":
        kl = kl * (sigma - sigma_next)
    return loss + options.kl_weight * kl.mean(), torch.exp(new.detach() - old), kl.detach()


@pytest.mark.parametrize(
    "changes",
    [
        dict(),
        dict(rollout={"transition": "cps"}),
        dict(rollout={"transition": "dance_sde", "shared_noise": False}),
        dict(loss={"surrogate": "ratio_norm"}),
        dict(loss={"surrogate": "kl_mask", "kl_mask_threshold": 1e-3}),
        dict(loss={"kl_weight": 0.3}),
        dict(loss={"kl_weight": 0.3, "kl_space": "mean"}),
        dict(loss={"kl_weight": 3.0, "kl_space": "flow_grpo"}),
        dict(rollout={"spacing": "diffusers"}),
        dict(optimizer={"batch_size": 2}),
    ],
)
def test_gradient_is_that_of_the_equations_image_by_image(toy, tmp_path, changes):
    trainer = toy.make(tmp_path / "run", toy.config(**changes))
    trainer.config.loss.clip_range = 0.03  # some are clipped, some are not
    condition = trainer.policy.condition(["up", "down"])
    trajectory = trainer.sampler.rollout(0, range(1, 4), ["up", "down"])
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # the policy has moved since the rollout
        for parameter in trainer.parameters:
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    advantages = torch.linspace(-2, 2, 12)
    # A minibatch of 7 images, 2 of which have no advantage; 2 of the 3 window steps are trained.
    rows, places = torch.tensor([10, 1, 7, 2, 11]), [0, 2]
    minibatch = Minibatch(trajectory, condition, advantages, rows, places, 7)
    loss, deviation, clipped, kl = trainer.updates.accumulate(minibatch)
    terms, ratios, kls = zip(
        *(term(trainer, trajectory, condition, advantages, place, row) for place in places for row in rows.tolist()),
        strict=True,
    )
    expected, change = sum(terms) / (7 * 2), (torch.cat(ratios) - 1).abs()
    for parameter, gradient in zip(trainer.parameters, torch.autograd.grad(expected, trainer.parameters), strict=True):
        assert gradient.norm() > 1e-3
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(deviation, change.mean(), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(clipped, (change > 0.03).float().mean())
    assert 0 < clipped < 1
    asked = trainer.config.loss.kl_weight > 0
    torch.testing.assert_close(kl, torch.cat(kls).mean() if asked else torch.zeros(()))


@pytest.mark.parametrize("surrogate", ["ratio_norm", "kl_mask"])
def test_other_surrogates_learn_too(toy, tmp_path, surrogate):
    settings = toy.config(loss={"surrogate": surrogate, "kl_mask_threshold": 0.1}, run={"iterations": 60})
    trainer = toy.make(tmp_path / "run", settings)
    trainer.run()
    first, *_, last = toy.events(trainer, "evaluation")
    assert last["reward"]["toy"] > 0.5 * first["reward"]["toy"]


def test_kl_holds_the_policy_near_its_base(toy, tmp_path):
    free, held = (toy.make(tmp_path / f"{w}", toy.config(loss={"kl_weight": w})) for w in (0.0, 10.0))
    for trainer in (free, held):
        trainer.run()
    size = [sum(float(value.abs().sum()) for value in toy.adapter(trainer).values()) for trainer in (free, held)]
    assert size[1] < 0.5 * size[0]
    # One model call more for each of the update's: rollouts of window starts 0 0 1 1 2 2 3 3 are the rest.
    rollouts = sum(2 * (start + 1) + (6 - start - 1) * 12 for start in (0, 0, 1, 1, 2, 2, 3, 3))
    assert held.forwards - rollouts == 2 * (free.forwards - rollouts)


@pytest.mark.parametrize("space", ["velocity", "mean"])
def test_kl_gradient_pulls_to_the_base(toy, tmp_path, space):
    trainer = toy.make(tmp_path / "run", toy.config(loss={"kl_weight": 1.0, "kl_space": space}))
    trainer.policy.module.adapter.bias.data.fill_(0.3)
    condition = trainer.policy.condition(["up", "down"])
    trajectory = trainer.sampler.rollout(0, range(1, 3), ["up", "down"])
    # Without advantage only the KL is left.
    trainer.updates.accumulate(Minibatch(trajectory, condition, torch.zeros(12), torch.arange(12), [0, 1], 12))
    assert (trainer.policy.module.adapter.bias.grad > 0).all()
