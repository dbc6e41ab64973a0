"""The updates: minibatches, surrogates, KL, learning rate, micro-batches, gradients that aren't finite."""

import pytest
import torch

from mixgrpo_engine.policy_update import learning_rate
from mixgrpo_engine.transitions import log_prob


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
    trajectory = trainer.sampler.rollout(0, range(1, 3), condition)
    rows = torch.arange(12)
    for place in range(2):
        (states,) = trainer.updates.calls(trajectory, rows, [place], 12)
        velocity = trainer.updates.velocity(trajectory, states, condition)
        here = torch.tensor([state.row for state in states])
        mean, std = trainer.updates.step_mean(trajectory, place, here, velocity)
        new = log_prob(trajectory.states[place + 1, here], mean.detach(), std)
        torch.testing.assert_close(new, trajectory.log_probs[place, here], atol=1e-6, rtol=0)


def test_ratio_leaves_1_with_the_second_update(toy, tmp_path):
    trainer = toy.make(tmp_path / "run")
    trainer.run()
    assert min(event["ratio_deviation"] for event in toy.events(trainer, "iteration")) > 1e-3


def test_equal_rewards_update_nothing(toy, tmp_path):
    class Same:
        name = "same"

        def score(self, images, prompts):
            return torch.full((len(images),), 0.5)

    trainer = toy.make(tmp_path / "run", reward=Same())
    before = toy.adapter(trainer)
    trainer.run()
    assert all(torch.equal(before[name], value) for name, value in toy.adapter(trainer).items())


def test_every_image_is_in_exactly_one_minibatch(toy, tmp_path):
    trainer = toy.make(tmp_path / "run", toy.config(optimizer={"updates": 5}))  # 12 images don't divide by 5
    condition = trainer.policy.condition(["up", "down"])
    trajectory = trainer.sampler.rollout(0, range(1, 3), condition)
    seen = []
    trainer.updates.accumulate = lambda t, c, a, rows, size, places: seen.append(rows) or (torch.zeros(()),) * 3
    trainer.updates.update(0, trajectory, condition, torch.ones(12))
    assert sorted(torch.cat(seen).tolist()) == list(range(12)) and len(seen) == 5


def test_a_share_of_the_window_is_trained(toy, tmp_path):
    trainer = toy.make(tmp_path / "run", toy.config(window={"size": 0, "trained_share": 0.6}))
    seen = []
    accumulate = trainer.updates.accumulate
    trainer.updates.accumulate = lambda *values: seen.append(values[-1]) or accumulate(*values)
    trainer.run()
    assert toy.events(trainer, "iteration")[0]["window"] == [0, 5]
    assert all(len(places) == 3 for places in seen) and len({tuple(places) for places in seen}) > 2


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
    trajectory = trainer.sampler.rollout(0, range(1, 3), condition)
    # Without advantage only the KL is left.
    trainer.updates.accumulate(trajectory, condition, torch.zeros(12), torch.arange(12), 12, [0, 1])
    assert (trainer.policy.module.adapter.bias.grad > 0).all()


def test_micro_batches_change_nothing_but_memory(toy, tmp_path):
    whole = toy.make(tmp_path / "whole")
    parts = toy.make(tmp_path / "parts", toy.config(rollout={"batch_size": 5}, optimizer={"batch_size": 4}))
    whole.run()
    parts.run()
    for name, value in toy.adapter(whole).items():
        torch.testing.assert_close(value, toy.adapter(parts)[name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kl_weight", [0.0, 0.5])
@pytest.mark.parametrize("shared_noise", [True, False])
def test_steps_joined_in_a_call_change_nothing(toy, tmp_path, kl_weight, shared_noise):
    """All steps of a minibatch in one call, with one sigma a row, against one image and step a call."""
    gradients, calls = [], []
    for size in (1, 1000):
        groups = dict(rollout={"shared_noise": shared_noise}, loss={"kl_weight": kl_weight})
        trainer = toy.make(tmp_path / f"{size}", toy.config(**groups, optimizer={"batch_size": size}))
        trainer.policy.module.adapter.bias.data.fill_(0.1)
        condition = trainer.policy.condition(["up", "down"])
        trajectory = trainer.sampler.rollout(0, range(1, 4), condition)
        trainer.policy.module.adapter.bias.data.fill_(0.2)  # ratios other than 1
        rows, advantages = torch.tensor([7, 1, 0, 11, 5]), torch.linspace(-1, 1, 12)
        totals = trainer.updates.accumulate(trajectory, condition, advantages, rows, 6, [0, 2])
        gradients.append([parameter.grad.clone() for parameter in trainer.parameters] + list(totals))
        calls.append(len(trainer.updates.calls(trajectory, rows, [0, 2], size)))
    assert calls == [7 if shared_noise else 10, 1]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_out_of_memory_halves_the_batch_and_changes_nothing_else(toy, tmp_path):
    whole, tight = toy.make(tmp_path / "whole"), toy.make(tmp_path / "tight")

    def limit(module, arguments):
        # The rollout takes 12 at once; the update 6, of which some share their first step.
        if len(arguments[0]) > (3 if torch.is_grad_enabled() else 4):
            raise torch.cuda.OutOfMemoryError("made up")

    tight.module.register_forward_pre_hook(limit)
    for trainer in (whole, tight):
        assert trainer.run() == "finished"
    assert (tight.sampler.batch_size.size, tight.updates.batch_size.size) == (3, 3)
    assert any("Out of memory" in event["message"] for event in toy.events(tight, "notice"))
    for name, value in toy.adapter(whole).items():
        torch.testing.assert_close(value, toy.adapter(tight)[name], atol=1e-5, rtol=1e-4)


def test_learning_rate_schedules(toy):
    linear = toy.config(optimizer={"schedule": "linear", "learning_rate": 0.1}, run={"iterations": 4})
    assert [learning_rate(linear, i) for i in range(4)] == pytest.approx([0.1, 0.075, 0.05, 0.025])
    assert learning_rate(toy.config(optimizer={"learning_rate": 0.1}), 7) == 0.1


def test_the_schedule_reaches_the_optimizer(toy, tmp_path):
    trainer = toy.make(tmp_path / "run", toy.config(optimizer={"schedule": "linear", "learning_rate": 0.1}))
    trainer.run()
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0.1 / 8)


def spoil_gradients(trainer, times):
    """Makes the next `times` gradients NaN."""
    left = [times]

    def spoil(gradient):
        left[0] -= 1
        return torch.full_like(gradient, float("nan")) if left[0] >= 0 else gradient

    trainer.policy.module.adapter.bias.register_hook(spoil)


def test_a_gradient_that_is_not_finite_is_left_out(toy, tmp_path):
    trainer = toy.make(tmp_path / "run")
    spoil_gradients(trainer, 1)
    assert trainer.run() == "finished"
    assert all(value.isfinite().all() for value in toy.adapter(trainer).values())
    assert "isn't finite" in toy.events(trainer, "notice")[0]["message"]


def test_gradients_that_stay_not_finite_end_the_run(toy, tmp_path):
    trainer = toy.make(tmp_path / "run")
    spoil_gradients(trainer, 10_000)
    with pytest.raises(RuntimeError, match="A gradient isn't finite.*3 times in a row"):
        trainer.run()
