"""The loop on a toy policy: it learns, tells what it does, and cancels cleanly."""

import json

import pytest
import torch

from mixgrpo_engine.advantage import group_advantages
from mixgrpo_engine.prompts import PromptSet
from mixgrpo_engine.window import SlidingWindow


def test_held_out_reward_rises(toy, tmp_path):
    trainer = toy.make(tmp_path / "run", toy.config(run={"iterations": 60, "evaluate_every": 60}))
    assert trainer.run() == "finished"
    first, last = toy.events(trainer, "evaluation")[0], toy.events(trainer, "evaluation")[-1]
    assert last["reward"]["toy"] > 0.5 * first["reward"]["toy"]  # rewards are negative distances
    assert trainer.folder.lora.exists()


def test_events_tell_the_whole_run(toy, tmp_path):
    trainer = toy.make(tmp_path / "run")
    trainer.run()
    iterations = toy.events(trainer, "iteration")
    assert [event["iteration"] for event in iterations] == list(range(1, 9))
    assert [tuple(event["window"]) for event in iterations][:5] == [(0, 2), (0, 2), (1, 3), (1, 3), (2, 4)]
    assert [event["iteration"] for event in toy.events(trainer, "evaluation")] == [0, 4, 8]
    assert [event["iteration"] for event in toy.events(trainer, "checkpoint")] == [2, 4, 6, 8]
    assert toy.events(trainer, "done")[0]["iteration"] == 8
    # Window start l: the steps up to and with l run once a prompt (2), the others once an image (12).
    rollouts = sum(2 * (start + 1) + (6 - start - 1) * 12 for start in (0, 0, 1, 1, 2, 2, 3, 3))
    # The update's second window step once an image, its first once a prompt of each of the two minibatches.
    updates = iterations[-1]["forwards"] - rollouts
    assert 8 * (12 + 2) <= updates <= 8 * (12 + 4)
    assert iterations[-1]["forwards"] == trainer.forwards
    assert len(list(trainer.folder.samples.glob("*.png"))) == 3


def test_events_file_is_json_without_nan(toy, tmp_path):
    trainer = toy.make(tmp_path / "run")
    trainer.run()
    for line in trainer.folder.events.read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(name))


def test_half_a_line_in_the_event_log_spoils_no_other(toy, tmp_path):
    trainer = toy.make(tmp_path / "run")
    trainer.folder.events.write_text('{"type": "iteration", "itera')
    trainer.run()
    assert len(toy.events(trainer, "iteration")) == 8 and len(toy.events(trainer, "evaluation")) == 3


def test_cancel_keeps_what_was_done_and_resumes(toy, tmp_path):
    trainer = toy.make(tmp_path / "run", toy.config(run={"checkpoint_every": 100}))
    trainer.pulse.should_stop = lambda: len(toy.events(trainer, "iteration")) >= 3
    assert trainer.run() == "cancelled"
    assert toy.events(trainer, "cancelled")[0]["iteration"] == 3
    assert trainer.checkpoints.complete()[-1].name == "000003"
    assert not trainer.folder.lora.exists()
    resumed = toy.make(tmp_path / "run", toy.config(run={"checkpoint_every": 100}))
    assert resumed.run() == "finished"
    whole = toy.make(tmp_path / "whole")
    whole.run()
    for name, value in toy.adapter(whole).items():
        assert torch.equal(value, toy.adapter(resumed)[name])


@pytest.mark.parametrize("evaluate_every", [4, 0], ids=["evaluation", "rollout"])
def test_cancel_is_heard_before_the_next_model_call(toy, tmp_path, evaluate_every):
    trainer, calls = toy.make(tmp_path / "run", toy.config(run={"evaluate_every": evaluate_every})), []
    trainer.policy.module.register_forward_hook(lambda *_: calls.append(1))
    trainer.pulse.should_stop = lambda: bool(calls)
    assert trainer.run() == "cancelled" and len(calls) == 1


def test_cancel_before_an_iterations_first_step_gives_it_up(toy, tmp_path):
    """The wish comes when all is sampled and scored, and the updates begin."""
    trainer = toy.make(tmp_path / "run")
    before, updates, steps = toy.adapter(trainer), calls_of(trainer.updates, "update"), optimizer_steps(trainer)
    trainer.pulse.should_stop = lambda: bool(updates)
    assert trainer.run() == "cancelled" and len(updates) == 1 and steps == []
    assert toy.events(trainer, "iteration") == [] and trainer.checkpoints.complete() == []
    assert all(torch.equal(before[name], value) for name, value in toy.adapter(trainer).items())


def test_cancel_is_heard_between_the_model_calls_of_the_first_gradient(toy, tmp_path):
    trainer = toy.make(tmp_path / "run", toy.config(optimizer={"batch_size": 1}))
    calls, steps = calls_of(trainer.updates, "_backward"), optimizer_steps(trainer)
    trainer.pulse.should_stop = lambda: len(calls) >= 2
    assert trainer.run() == "cancelled" and len(calls) == 2 and steps == []


def test_cancel_after_an_iterations_first_step_finishes_it(toy, tmp_path):
    """The wish comes with the first of its two steps; the second one is still made."""
    trainer = toy.make(tmp_path / "run")
    steps = optimizer_steps(trainer)
    trainer.pulse.should_stop = lambda: bool(steps)
    assert trainer.run() == "cancelled" and len(steps) == 2
    assert len(toy.events(trainer, "iteration")) == 1 and trainer.checkpoints.complete()[-1].name == "000001"


def calls_of(owner, name):
    """A list that grows as this method begins."""
    calls, method = [], getattr(owner, name)
    setattr(owner, name, lambda *arguments: calls.append(arguments) or method(*arguments))
    return calls


def optimizer_steps(trainer):
    """A list that grows with each step that the optimizer has made."""
    steps = []
    trainer.optimizer.optimizer.register_step_post_hook(lambda *_: steps.append(1))
    return steps


@pytest.mark.parametrize("mix,spread", [("advantages", "group"), ("rewards", "group"), ("advantages", "iteration")])
def test_the_settings_reach_the_advantages(toy, tmp_path, mix, spread):
    weights = {"toy": 3.0, "brightness": 1.0}
    settings = toy.config(loss={"mix": mix, "advantage_clip": 0.8, "spread": spread}, run={"iterations": 1})
    trainer = toy.make(tmp_path / "run", settings, others=[toy.Brightness()], weights=weights)
    rewards, advantages = [], []
    collect, update = trainer.sampler.collect, trainer.updates.update

    def collected(*arguments):
        experience = collect(*arguments)
        rewards.append(experience.rewards)
        return experience

    trainer.sampler.collect = collected
    trainer.updates.update = lambda *arguments: advantages.append(arguments[-1]) or update(*arguments)
    trainer.run()
    torch.testing.assert_close(advantages, [group_advantages(rewards[0], 6, weights, mix, 0.8, spread)])


def test_events_tell_mean_and_spread_of_what_could_be_scored(toy, tmp_path):
    groups = iter([[0.0, 1.0, float("nan"), 3.0, 4.0, 7.0], [10.0, 10.0, 10.0, 10.0, 10.0, 16.0]])

    class Known:
        name = "known"

        def score(self, images, prompts):
            return torch.tensor(next(groups))

    trainer = toy.make(tmp_path / "run", toy.config(run={"iterations": 1, "evaluate_every": 0}), Known())
    trainer.run()
    (event,) = toy.events(trainer, "iteration")
    assert event["reward"]["known"] == pytest.approx((15 + 66) / 11)
    # Inside the groups: 0 1 3 4 7 has variance 6, five 10 and a 16 have variance 5.
    assert event["reward_std"] == pytest.approx((6**0.5 + 5**0.5) / 2)


def test_the_last_event_tells_of_iterations_without_a_score(toy, tmp_path):
    """A resumed run counts those of before."""

    class Dark(toy.Brightness):
        calls = 0

        def score(self, images, prompts):
            Dark.calls += 1
            return images.flatten(1).mean(1) * (float("nan") if Dark.calls in (3, 4) else 1.0)  # the second iteration

    settings = {"evaluate_every": 0, "checkpoint_every": 1}
    assert toy.make(tmp_path / "run", toy.config(run={**settings, "iterations": 2}), Dark()).run() == "finished"
    trainer = toy.make(tmp_path / "run", toy.config(run={**settings, "iterations": 3}), Dark())
    trainer.run()
    sentence = "The reward 'brightness' could score no image in 1 of {} iterations: nothing was learned from it there."
    done = toy.events(trainer, "done")
    assert [event["message"] for event in done] == [sentence.format(2), sentence.format(3)]
    scored = toy.make(tmp_path / "other", toy.config(run={**settings, "iterations": 1}))
    scored.run()
    assert toy.events(scored, "done")[0]["message"] == ""


def test_the_time_left_is_told_from_the_iterations_so_far(toy, tmp_path):
    trainer = toy.make(tmp_path / "run", toy.config(run={"evaluate_every": 0, "sample_every": 0}))
    trainer.run()
    events = toy.events(trainer, "iteration")
    left, took = ([event[name] for event in events] for name in ("eta_seconds", "seconds"))
    assert left[-1] == 0 and left[0] == pytest.approx(7 * took[0]["total"])
    assert left[2] == pytest.approx(5 * (took[1]["total"] + took[2]["total"]) / 2), "the first is always slower"


def test_the_settings_reach_optimizer_and_window(toy, tmp_path):
    options = {"learning_rate": 0.01, "weight_decay": 0.02, "beta1": 0.8, "beta2": 0.9}
    trainer = toy.make(tmp_path / "run", toy.config(optimizer=options))
    (group,) = trainer.optimizer.param_groups
    assert (group["lr"], group["weight_decay"], group["betas"]) == (0.01, 0.02, (0.8, 0.9))
    window = {"size": 2, "stride": 3, "interval": 4, "strategy": "random", "wrap": True}
    made = toy.config(rollout={"steps": 12}, window=window, run={"seed": 7}).sliding_window()
    assert made == SlidingWindow(12, 2, 3, 4, "random", 7, True)


def test_prompts_come_in_the_order_of_the_seed(toy, tmp_path):
    prompts, orders = PromptSet(("up", "down", "left")), []
    for seed in (0, 1):
        settings = toy.config(rollout={"prompts_per_iteration": 1}, run={"seed": seed, "evaluate_every": 0})
        trainer, seen = toy.make(tmp_path / f"{seed}", settings, prompts=prompts), []
        collect = trainer.sampler.collect
        trainer.sampler.collect = lambda *a, collect=collect, seen=seen: seen.extend(a[-1]) or collect(*a)
        trainer.run()
        assert seen == [prompts.at(i, 1, seed)[0] for i in range(8)]
        orders.append(seen)
    assert orders[0] != orders[1]


def test_max_start_limits_the_window(toy):
    window = toy.config(window={"size": 2, "interval": 1, "max_start": 1}).sliding_window()
    assert {window.at(i).start for i in range(50)} == {0, 1}
