"""The updates: minibatches, trained steps, learning rate, micro-batches, gradients that aren't finite."""

import pytest
import torch
from accelerate.optimizer import AcceleratedOptimizer

from mixgrpo_engine.training.policy_update import Minibatch
from mixgrpo_engine.training.update_plan import learning_rate, step_weights, trained_places


def test_equal_rewards_update_nothing(toy, tmp_path):
    class Same:
        name = "same"

        def score(self, images, prompts):
            return torch.full((len(images),), 0.5)

    trainer = toy.make(tmp_path / "run", reward=Same())
    before = toy.adapter(trainer)
    trainer.run()
    assert all(torch.equal(before[name], value) for name, value in toy.adapter(trainer).items())


def minibatches(trainer, iteration=0, advantages=None):
    """(rows that the model is called for, size with the others) of each minibatch of an update."""
    condition, seen = trainer.policy.condition(["up", "down"]), []
    trajectory = trainer.sampler.rollout(0, range(1, 3), ["up", "down"])

    def accumulate(minibatch):
        seen.append((minibatch.rows.tolist(), minibatch.size))
        return (torch.zeros(()),) * 4

    trainer.updates.accumulate = accumulate
    trainer.updates.audit.check_norm = lambda norm: None  # nothing is computed
    trainer.updates.update(iteration, trajectory, condition, torch.ones(12) if advantages is None else advantages)
    return seen


def test_every_image_is_in_exactly_one_minibatch(toy, tmp_path):
    trainer = toy.make(tmp_path / "run", toy.config(optimizer={"updates": 5}))  # 12 images don't divide by 5
    seen = minibatches(trainer)
    assert sorted(row for rows, _ in seen for row in rows) == list(range(12))
    assert sorted(size for _, size in seen) == [2, 2, 2, 3, 3]


def test_minibatches_are_drawn_anew_every_iteration_by_the_seed(toy, tmp_path):
    one, other = (toy.make(tmp_path / f"{seed}", toy.config(run={"seed": seed})) for seed in (0, 1))
    drawn = minibatches(one, 3)
    assert drawn == minibatches(one, 3)
    assert drawn != minibatches(one, 4) and drawn != minibatches(other, 3)
    assert [row for rows, _ in drawn for row in rows] != list(range(12))


@pytest.mark.parametrize("updates,shares", [(3, [2, 2, 2]), (4, [1, 1, 2, 2]), (1, [6])])
def test_balanced_minibatches_take_as_many_images_of_every_prompt(toy, tmp_path, updates, shares):
    settings = toy.config(optimizer={"updates": updates, "balanced": True})
    trainer = toy.make(tmp_path / "run", settings)  # 2 prompts with 6 images
    seen = [rows for rows, _ in minibatches(trainer)]
    assert sorted(row for rows in seen for row in rows) == list(range(12))
    for prompt in range(2):
        assert sorted(sum(row // 6 == prompt for row in rows) for rows in seen) == shares
    assert max(map(len, seen)) - min(map(len, seen)) <= 1, "the larger parts of the prompts fall to different updates"
    assert updates == 1 or seen != [rows for rows, _ in minibatches(trainer, 1)], "drawn anew every iteration"


def test_balanced_minibatches_need_an_image_of_every_prompt(toy):
    with pytest.raises(ValueError, match="updates is 7 with 6 images a prompt: with balanced minibatches it must be 6"):
        toy.config(optimizer={"updates": 7, "balanced": True}).validate()


def test_images_without_advantage_cost_no_model_call_but_count(toy, tmp_path):
    trainer, advantages = toy.make(tmp_path / "run", toy.config(optimizer={"updates": 3})), torch.ones(12)
    advantages[[0, 4, 5, 8, 11]] = 0
    seen = minibatches(trainer, 0, advantages)
    assert sorted(row for rows, _ in seen for row in rows) == [1, 2, 3, 6, 7, 9, 10]
    assert [size for _, size in seen] == [4, 4, 4]
    assert len(minibatches(trainer, 0, (torch.arange(12) == 5).float())) == 1  # the others have nothing to learn


def test_the_first_step_is_called_once_a_prompt(toy, tmp_path):
    sizes = {}
    for shared in (True, False):
        settings = toy.config(rollout={"shared_noise": shared}, optimizer={"updates": 1})
        trainer = toy.make(tmp_path / f"{shared}", settings)
        condition, calls = trainer.policy.condition(["up", "down"]), sizes.setdefault(shared, [])
        trajectory = trainer.sampler.rollout(0, range(1, 4), ["up", "down"])
        trainer.module.register_forward_pre_hook(lambda module, args, calls=calls: calls.append(len(args[0])))
        report = trainer.updates.update(0, trajectory, condition, torch.ones(12))
        assert report.forwards == sum(calls)
    assert sizes == {True: [2, 12, 12], False: [12, 12, 12]}


@pytest.mark.parametrize("surrogate", ["clip", "ratio_norm", "kl_mask"])
def test_before_an_iterations_first_step_rounding_takes_no_image_out_of_the_gradient(toy, tmp_path, surrogate):
    """In bf16 the rollout's log-probabilities and means differ from the update's by more than the clip range."""
    reports = []
    for off in (0.0, 0.5):
        settings = toy.config(optimizer={"updates": 1}, loss={"surrogate": surrogate, "clip_range": 1e-4})
        trainer = toy.make(tmp_path / f"{off}", settings)
        condition = trainer.policy.condition(["up", "down"])
        trajectory = trainer.sampler.rollout(0, range(1, 3), ["up", "down"])
        trajectory.log_probs -= off
        if trajectory.means is not None:
            trajectory.means += off
        reports.append(trainer.updates.update(0, trajectory, condition, torch.ones(12)))
    exact, rounded = reports
    assert rounded.grad_norm == exact.grad_norm > 0 and rounded.loss == exact.loss
    assert rounded.ratio_deviation == pytest.approx(torch.tensor(0.5).exp() - 1), "told as it is"


def test_gradients_are_scaled_down_to_the_norm(toy, tmp_path):
    trainer = toy.make(tmp_path / "run", toy.config(optimizer={"max_grad_norm": 1e-3}))
    norms = []

    def note(optimizer, *_):
        norms.append(float(torch.cat([p.grad.flatten() for p in trainer.parameters]).norm()))

    trainer.optimizer.optimizer.register_step_pre_hook(note)
    trainer.run()
    assert norms == pytest.approx([1e-3] * 16, rel=1e-3)
    assert all(parameter.grad is None for parameter in trainer.parameters), "no memory for them in the rollout"
    assert min(event["grad_norm"] for event in toy.events(trainer, "iteration")) > 2e-3, "told before the scaling"


def test_a_share_of_the_window_is_trained(toy, tmp_path):
    trainer = toy.make(tmp_path / "run", toy.config(window={"size": 0, "trained_share": 0.6}))
    seen = []
    accumulate = trainer.updates.accumulate
    trainer.updates.accumulate = lambda minibatch: seen.append(minibatch.places) or accumulate(minibatch)
    trainer.run()
    assert toy.events(trainer, "iteration")[0]["window"] == [0, 5]
    assert all(len(places) == 3 for places in seen) and len({tuple(places) for places in seen}) > 2


def test_trained_places_are_a_seeded_draw(toy):
    def drawn(share, seed=0, size=10):
        settings = toy.config(window={"trained_share": share}, run={"seed": seed})
        return [trained_places(settings, size, iteration) for iteration in range(20)]

    assert drawn(1.0) == [list(range(10))] * 20
    assert {len(places) for places in drawn(0.01)} == {1} and {len(places) for places in drawn(0.55)} == {5}
    assert drawn(0.5) == drawn(0.5) != drawn(0.5, seed=1)
    assert all(places == sorted(set(places)) and places[-1] < 10 for places in drawn(0.5))


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
        trajectory = trainer.sampler.rollout(0, range(1, 4), ["up", "down"])
        trainer.policy.module.adapter.bias.data.fill_(0.2)  # ratios other than 1
        rows, advantages = torch.tensor([7, 1, 0, 11, 5]), torch.linspace(-1, 1, 12)
        minibatch = Minibatch(trajectory, condition, advantages, rows, [0, 2], 6)
        totals = trainer.updates.accumulate(minibatch)
        gradients.append([parameter.grad.clone() for parameter in trainer.parameters] + list(totals))
        calls.append(len(trainer.updates.split_into_calls(minibatch, size)))
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


def test_joined_steps_that_need_too_much_are_halved_from_their_own_size(toy, tmp_path):
    """Minibatches of 6 with 2 steps: a call of 12 is too much, 6 of both steps are not."""
    tight = toy.make(tmp_path / "tight", toy.config(optimizer={"batch_size": 12}, rollout={"shared_noise": False}))
    whole = toy.make(tmp_path / "whole", toy.config(rollout={"shared_noise": False}))

    def limit(module, arguments):
        if torch.is_grad_enabled() and len(arguments[0]) > 6:
            raise torch.cuda.OutOfMemoryError("made up")

    tight.module.register_forward_pre_hook(limit)
    for trainer in (whole, tight):
        assert trainer.run() == "finished"
    assert tight.updates.batch_size.size == 6
    (notice,) = toy.events(tight, "notice")
    assert "Out of memory with 12 images a model call: going on with 6." in notice["message"]
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


def give_scaler(trainer, scale):
    """As accelerate does with mixed_precision fp16, for which it wants a GPU."""
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    trainer.accelerator.scaler = scaler
    trainer.updates.optimizer = AcceleratedOptimizer(trainer.optimizer.optimizer, scaler=scaler)
    trainer.accelerator._optimizers = [trainer.updates.optimizer]
    return scaler


def test_steps_that_the_scaler_of_fp16_skips_are_no_failures(toy, tmp_path):
    """It begins too high, and halves itself with each gradient that overflows: here five times."""
    trainer = toy.make(tmp_path / "run", toy.config(optimizer={"updates": 4}, run={"iterations": 2}))
    before = toy.adapter(trainer)
    scaler = give_scaler(trainer, 65536.0)
    for parameter in trainer.parameters:
        parameter.register_hook(lambda grad: grad * (torch.inf if scaler.get_scale() > 2048 else 1.0))
    trainer.run()
    assert scaler.get_scale() == 2048 and toy.events(trainer, "notice") == []
    assert any(not torch.equal(before[name], value) for name, value in toy.adapter(trainer).items())


def test_a_scaler_that_finds_no_scale_ends_the_run(toy, tmp_path):
    trainer = toy.make(tmp_path / "run", toy.config(optimizer={"updates": 4}, run={"iterations": 20}))
    give_scaler(trainer, 16.0)
    for parameter in trainer.parameters:
        parameter.register_hook(lambda grad: grad * torch.inf)
    with pytest.raises(RuntimeError, match="A gradient isn't finite"):
        trainer.run()


def test_gradients_that_overflow_float16_are_made_again_smaller(toy, tmp_path):
    trainer = toy.make(tmp_path / "run", toy.config(optimizer={"updates": 2}, run={"iterations": 1}))
    lowered = []
    trainer.policy.rescale_gradients = lambda: lowered.append(True) or len(lowered) < 4
    for parameter in trainer.parameters:
        parameter.register_hook(lambda grad: grad * (torch.inf if len(lowered) < 2 else 1.0))
    trainer.run()
    assert len(lowered) == 2 and toy.events(trainer, "notice") == []
    (iteration,) = toy.events(trainer, "iteration")
    assert 0 < iteration["grad_norm"] < float("inf")


def test_each_pass_takes_all_images_anew(toy, tmp_path):
    one = minibatches(toy.make(tmp_path / "one", toy.config(optimizer={"updates": 3})))
    two = minibatches(toy.make(tmp_path / "two", toy.config(optimizer={"updates": 3, "epochs": 2})))
    assert two[:3] == one and len(two) == 6, "a second pass leaves the first as it is"
    assert sorted(row for rows, _ in two[3:] for row in rows) == list(range(12)) and two[3:] != one


def test_the_policy_moves_on_from_pass_to_pass(toy, tmp_path):
    trainer = toy.make(tmp_path / "run", toy.config(optimizer={"updates": 2, "epochs": 3}))
    trainer.run()
    for event in toy.events(trainer, "iteration"):
        first, second, third = (event["deviations"][name] for name in ("1", "2", "3"))
        assert first < second < third and event["updates"] == 6
    plain = toy.make(tmp_path / "plain", toy.config(optimizer={"updates": 2}))
    plain.run()
    assert toy.events(plain, "iteration")[0]["deviations"] == {}, "ratio_deviation says it"


@pytest.mark.parametrize("transition", ["flow_sde", "cps"])
def test_step_weights_are_the_steps_noise_over_its_mean(toy, tmp_path, transition):
    settings = toy.config(rollout={"transition": transition}, loss={"step_weights": "noise"})
    trainer = toy.make(tmp_path / "run", settings)
    trajectory = trainer.sampler.rollout(0, range(0, 5), ["up"])  # all steps but the last
    weights = step_weights(settings, trajectory)
    assert sum(weights) / 5 == pytest.approx(1) and weights[1] > weights[-1]
    stds = [
        trainer.updates.step_mean(
            Minibatch(trajectory, None, None, None, [], 1), place, [0], 0 * trajectory.states[0, :1]
        )[1]
        for place in range(5)
    ]
    assert weights == pytest.approx([std * 5 / sum(stds) for std in stds])
    later = trainer.sampler.rollout(0, range(3, 5), ["up"])
    assert step_weights(settings, later) == pytest.approx(weights[3:]), "whatever the window holds"
    assert step_weights(toy.config(), later) is None


def test_a_steps_weight_weighs_its_loss_and_not_the_kl(toy, tmp_path):
    trainer = toy.make(tmp_path / "run", toy.config(loss={"kl_weight": 0.5}))
    condition, rows, advantages = trainer.policy.condition(["up", "down"]), torch.arange(12), torch.linspace(-1, 1, 12)
    trajectory = trainer.sampler.rollout(0, range(1, 3), ["up", "down"])
    trainer.policy.module.adapter.bias.data.fill_(0.1)

    def loss(weights):
        return trainer.updates.accumulate(
            Minibatch(trajectory, condition, advantages, rows, [0, 1], 12, weights=weights)
        )[0]

    first, second, neither = loss([1.0, 0.0]), loss([0.0, 1.0]), loss([0.0, 0.0])
    torch.testing.assert_close(loss([3.0, 0.5]), neither + 3 * (first - neither) + 0.5 * (second - neither))
    assert neither > 0, "the KL stays"
