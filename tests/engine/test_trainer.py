"""The loop on a toy policy: it learns, resumes exactly, cancels cleanly, and reports what it does."""

import json
import threading

import pytest
import torch
from safetensors.torch import load_file

from mixgrpo_engine.config import TrainConfig
from mixgrpo_engine.events import read
from mixgrpo_engine.experience import score_images
from mixgrpo_engine.policy_update import learning_rate
from mixgrpo_engine.prompts import PromptSet
from mixgrpo_engine.run_folder import RunFolder
from mixgrpo_engine.trainer import Trainer, sliding_window
from mixgrpo_engine.transitions import log_prob

PROMPTS = PromptSet(("up", "down"), ("left", "right"))


def config(**groups):
    values = {
        "rollout": {"steps": 6, "group_size": 6, "prompts_per_iteration": 2},
        "window": {"size": 2, "interval": 2},
        "optimizer": {"learning_rate": 0.05, "updates": 2},
        "loss": {"clip_range": 0.2},
        "run": {"iterations": 8, "evaluate_every": 4, "checkpoint_every": 2},
    }
    for group, changes in groups.items():
        values.setdefault(group, {}).update(changes)
    return TrainConfig.from_dict(values)


def make(toy, folder, settings=None, reward=None, should_stop=lambda: False, seed=0):
    folder = RunFolder(folder)
    reward = reward or toy.ToyReward()
    rewards, settings = {reward.name: reward}, settings or config()
    return Trainer(toy.ToyPolicy(seed), rewards, PROMPTS, settings, folder, folder.emit, should_stop)


def adapter(trainer):
    return {name: value.clone() for name, value in trainer.policy.adapter_state().items()}


def events(trainer, kind):
    return [event for event in read(trainer.folder.events)[0] if event["type"] == kind]


def test_held_out_reward_rises(toy, tmp_path):
    trainer = make(toy, tmp_path / "run", config(run={"iterations": 60, "evaluate_every": 60}))
    assert trainer.run() == "finished"
    first, last = events(trainer, "evaluation")[0], events(trainer, "evaluation")[-1]
    assert last["reward"]["toy"] > 0.5 * first["reward"]["toy"]  # rewards are negative distances
    assert trainer.folder.lora.exists()


def test_events_tell_the_whole_run(toy, tmp_path):
    trainer = make(toy, tmp_path / "run")
    trainer.run()
    iterations = events(trainer, "iteration")
    assert [event["iteration"] for event in iterations] == list(range(1, 9))
    assert [tuple(event["window"]) for event in iterations][:5] == [(0, 2), (0, 2), (1, 3), (1, 3), (2, 4)]
    assert [event["iteration"] for event in events(trainer, "evaluation")] == [0, 4, 8]
    assert [event["iteration"] for event in events(trainer, "checkpoint")] == [2, 4, 6, 8]
    assert events(trainer, "done")[0]["iteration"] == 8
    # Window start l: the steps up to and with l run once a prompt (2), the others once an image (12).
    rollouts = sum(2 * (start + 1) + (6 - start - 1) * 12 for start in (0, 0, 1, 1, 2, 2, 3, 3))
    # The update's second window step once an image, its first once a prompt of each of the two minibatches.
    updates = iterations[-1]["forwards"] - rollouts
    assert 8 * (12 + 2) <= updates <= 8 * (12 + 4)
    assert iterations[-1]["forwards"] == trainer.forwards
    assert len(list(trainer.folder.samples.glob("*.png"))) == 3


def test_ratio_is_1_before_the_first_update(toy, tmp_path):
    trainer = make(toy, tmp_path / "run")
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


@pytest.mark.parametrize("stop_after", [3, 4])
def test_a_resumed_run_ends_bit_for_bit_as_an_uninterrupted_one(toy, tmp_path, stop_after):
    whole = make(toy, tmp_path / "whole")
    whole.run()

    class Killed(Exception):
        pass

    def kill(event):
        if event.type == "iteration" and event.iteration == stop_after:
            raise Killed

    broken = make(toy, tmp_path / "broken")
    broken.emit = kill
    with pytest.raises(Killed):
        broken.run()
    torch.manual_seed(999)  # a new process starts with other global random numbers
    resumed = make(toy, tmp_path / "broken")
    assert resumed.run() == "finished"
    assert events(resumed, "stage")[0]["name"] == "resume"
    for name, value in adapter(whole).items():
        assert torch.equal(value, adapter(resumed)[name]), name
    assert resumed.forwards == whole.forwards


def test_micro_batches_change_nothing_but_memory(toy, tmp_path):
    whole = make(toy, tmp_path / "whole")
    parts = make(toy, tmp_path / "parts", config(rollout={"batch_size": 5}, optimizer={"batch_size": 4}))
    whole.run()
    parts.run()
    for name, value in adapter(whole).items():
        torch.testing.assert_close(value, adapter(parts)[name], atol=1e-5, rtol=1e-4)


def test_cancel_keeps_what_was_done_and_resumes(toy, tmp_path):
    trainer = make(toy, tmp_path / "run", config(run={"checkpoint_every": 100}))
    trainer.pulse.should_stop = lambda: len(events(trainer, "iteration")) >= 3
    assert trainer.run() == "cancelled"
    assert events(trainer, "cancelled")[0]["iteration"] == 3
    assert trainer.checkpoints.complete()[-1].name == "000003"
    assert not trainer.folder.lora.exists()
    resumed = make(toy, tmp_path / "run", config(run={"checkpoint_every": 100}))
    assert resumed.run() == "finished"
    whole = make(toy, tmp_path / "whole")
    whole.run()
    for name, value in adapter(whole).items():
        assert torch.equal(value, adapter(resumed)[name])


def test_a_half_written_checkpoint_is_ignored(toy, tmp_path):
    trainer = make(toy, tmp_path / "run")
    trainer.run()
    (trainer.folder.checkpoints / ".000010.tmp").mkdir()
    assert trainer.checkpoints.complete()[-1].name == "000008"
    assert [path.name for path in sorted(trainer.folder.checkpoints.glob("0*"))] == ["000006", "000008"]


def test_equal_rewards_update_nothing(toy, tmp_path):
    class Same:
        name = "same"

        def score(self, images, prompts):
            return torch.full((len(images),), 0.5)

    trainer = make(toy, tmp_path / "run", reward=Same())
    before = adapter(trainer)
    trainer.run()
    assert all(torch.equal(before[name], value) for name, value in adapter(trainer).items())


def test_a_scorer_that_fails_on_everything_stops_the_run_with_one_sentence(toy, tmp_path):
    class Broken:
        name = "broken"

        def score(self, images, prompts):
            return torch.full((len(images),), float("nan"))

    with pytest.raises(RuntimeError, match="'broken' could score none of the 12 images"):
        make(toy, tmp_path / "run", config(run={"evaluate_every": 0}), reward=Broken()).run()


def test_one_bad_prompt_does_not_end_the_run(toy, tmp_path):
    class Picky(toy.ToyReward):
        name = "picky"

        def score(self, images, prompts):
            scores = super().score(images, prompts)
            return torch.where(torch.tensor([p == "down" for p in prompts]), torch.nan, scores)

    trainer = make(toy, tmp_path / "run", config(rollout={"prompts_per_iteration": 1}), reward=Picky())
    assert trainer.run() == "finished"
    assert "could score none" in events(trainer, "notice")[0]["message"]


def test_a_scorer_of_the_wrong_length_is_named(toy, tmp_path):
    class Mean(toy.ToyReward):
        def score(self, images, prompts):
            return super().score(images, prompts).mean()

    with pytest.raises(RuntimeError, match="one an image"):
        make(toy, tmp_path / "run", config(run={"evaluate_every": 0}), reward=Mean()).run()


def spoil_gradients(trainer, times):
    """Makes the next `times` gradients NaN."""
    left = [times]

    def spoil(gradient):
        left[0] -= 1
        return torch.full_like(gradient, float("nan")) if left[0] >= 0 else gradient

    trainer.policy.module.adapter.bias.register_hook(spoil)


def test_a_gradient_that_is_not_finite_is_left_out(toy, tmp_path):
    trainer = make(toy, tmp_path / "run")
    spoil_gradients(trainer, 1)
    assert trainer.run() == "finished"
    assert all(value.isfinite().all() for value in adapter(trainer).values())
    assert "isn't finite" in events(trainer, "notice")[0]["message"]


def test_gradients_that_stay_not_finite_end_the_run(toy, tmp_path):
    trainer = make(toy, tmp_path / "run")
    spoil_gradients(trainer, 10_000)
    with pytest.raises(RuntimeError, match="A gradient isn't finite.*3 times in a row"):
        trainer.run()


def test_an_adapter_that_is_not_finite_is_never_saved(toy, tmp_path):
    trainer = make(toy, tmp_path / "run")
    trainer.policy.module.adapter.bias.data[0] = float("nan")
    with pytest.raises(RuntimeError, match="isn't saved"):
        trainer.checkpoints.save(1, {})
    assert trainer.checkpoints.complete() == []


def test_an_image_that_is_not_finite_has_no_score(toy):
    images = torch.zeros(6, 2, 2, 3)
    images[2, 0, 0, 0] = float("inf")
    scores = score_images({"toy": toy.ToyReward()}, images, ["up"] * 6)["toy"]
    assert scores.isnan().tolist() == [False, False, True, False, False, False]


@pytest.mark.parametrize("file", ["adapter.safetensors", "optimizer.bin", "progress.json"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(toy, tmp_path, file):
    whole = make(toy, tmp_path / "run")
    whole.run()
    (whole.folder.checkpoints / "000008" / file).write_bytes(b"damaged")
    resumed = make(toy, tmp_path / "run")
    assert resumed.run() == "finished"
    assert "000008 can't be read" in events(resumed, "notice")[0]["message"]
    for name, value in adapter(whole).items():
        assert torch.equal(value, adapter(resumed)[name])


def test_only_damaged_checkpoints_end_the_run_with_one_sentence(toy, tmp_path):
    trainer = make(toy, tmp_path / "run")
    trainer.run()
    for path in trainer.checkpoints.complete():
        (path / "adapter.safetensors").write_bytes(b"damaged")
    with pytest.raises(RuntimeError, match="No checkpoint in .* can be read"):
        make(toy, tmp_path / "run").run()


def test_checkpoints_are_ordered_by_number(toy, tmp_path):
    trainer = make(toy, tmp_path / "run")
    for name in ("999990", "1000000"):
        (trainer.folder.checkpoints / name).mkdir()
    assert [path.name for path in trainer.checkpoints.complete()] == ["999990", "1000000"]


def test_an_evaluation_that_a_kill_left_undone_is_made_up_for(toy, tmp_path):
    class Killed(Exception):
        pass

    broken = make(toy, tmp_path / "run")

    def kill():
        raise Killed

    sample, broken.held_out._sample = broken.held_out._sample, None
    broken.held_out._sample = lambda: kill() if broken.iteration == 8 else sample()
    with pytest.raises(Killed):
        broken.run()
    resumed = make(toy, tmp_path / "run")
    resumed.run()
    assert [event["iteration"] for event in events(resumed, "evaluation")] == [0, 4, 8]


def test_evaluation_calls_the_model_with_no_more_images_than_a_rollout(toy, tmp_path):
    trainer = make(toy, tmp_path / "run", config(run={"evaluate_images": 20}))
    sizes = []
    trainer.module.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    trainer.held_out.evaluate(0)
    assert max(sizes) == 12 and sum(sizes) == 6 * 40


def test_cancel_in_the_first_update_gives_the_iteration_up(toy, tmp_path):
    trainer = make(toy, tmp_path / "run")
    before = adapter(trainer)
    asked = iter([False] * 13)  # the evaluation's and the rollout's calls, the score's, then the first update's
    trainer.pulse.should_stop = lambda: next(asked, True)
    assert trainer.run() == "cancelled"
    assert all(torch.equal(before[name], value) for name, value in adapter(trainer).items())


def test_half_a_line_in_the_event_log_spoils_no_other(toy, tmp_path):
    trainer = make(toy, tmp_path / "run")
    trainer.folder.events.write_text('{"type": "iteration", "itera')
    trainer.run()
    assert len(events(trainer, "iteration")) == 8 and len(events(trainer, "evaluation")) == 3


def test_every_image_is_in_exactly_one_minibatch(toy, tmp_path):
    trainer = make(toy, tmp_path / "run", config(optimizer={"updates": 5}))  # 12 images don't divide by 5
    condition = trainer.policy.condition(["up", "down"])
    trajectory = trainer.sampler.rollout(0, range(1, 3), condition)
    seen = []
    trainer.updates.accumulate = lambda t, c, a, rows, size, places: seen.append(rows) or (torch.zeros(()),) * 3
    trainer.updates.update(0, trajectory, condition, torch.ones(12))
    assert sorted(torch.cat(seen).tolist()) == list(range(12)) and len(seen) == 5


def test_events_file_is_json_without_nan(toy, tmp_path):
    trainer = make(toy, tmp_path / "run")
    trainer.run()
    for line in trainer.folder.events.read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(name))


def test_flash_re_spaces_with_the_models_shift_and_saves_forwards(toy, tmp_path):
    flash = make(toy, tmp_path / "run", config(rollout={"flash_ratio": 0.4, "tail_order": 2}))
    trajectory = flash.sampler.rollout(0, range(1, 3), flash.policy.condition(["up", "down"]))
    assert trajectory.forwards == 2 * 2 + (1 + 2) * 12  # of the 3 steps after the window, ceil(1.2) = 2 are left
    time_left = trajectory.sigmas / (3 - 2 * trajectory.sigmas)  # shift 3 undone: evenly spaced
    torch.testing.assert_close(time_left[3:], time_left[3] * torch.tensor([1.0, 0.5, 0.0]))


def test_learning_rate_schedules():
    linear = config(optimizer={"schedule": "linear", "learning_rate": 0.1}, run={"iterations": 4})
    assert [learning_rate(linear, i) for i in range(4)] == pytest.approx([0.1, 0.075, 0.05, 0.025])
    assert learning_rate(config(optimizer={"learning_rate": 0.1}), 7) == 0.1


def test_the_schedule_reaches_the_optimizer(toy, tmp_path):
    trainer = make(toy, tmp_path / "run", config(optimizer={"schedule": "linear", "learning_rate": 0.1}))
    trainer.run()
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0.1 / 8)


def test_kl_holds_the_policy_near_its_base(toy, tmp_path):
    free, held = (make(toy, tmp_path / f"{w}", config(loss={"kl_weight": w})) for w in (0.0, 10.0))
    for trainer in (free, held):
        trainer.run()
    size = [sum(float(value.abs().sum()) for value in adapter(trainer).values()) for trainer in (free, held)]
    assert size[1] < 0.5 * size[0]
    # One model call more for each of the update's: rollouts of window starts 0 0 1 1 2 2 3 3 are the rest.
    rollouts = sum(2 * (start + 1) + (6 - start - 1) * 12 for start in (0, 0, 1, 1, 2, 2, 3, 3))
    assert held.forwards - rollouts == 2 * (free.forwards - rollouts)


def test_max_start_limits_the_window():
    window = sliding_window(config(window={"size": 2, "interval": 1, "max_start": 1}))
    assert {window.at(i).start for i in range(50)} == {0, 1}


@pytest.mark.parametrize("surrogate", ["ratio_norm", "kl_mask"])
def test_other_surrogates_learn_too(toy, tmp_path, surrogate):
    settings = config(loss={"surrogate": surrogate, "kl_mask_threshold": 0.1}, run={"iterations": 60})
    trainer = make(toy, tmp_path / "run", settings)
    trainer.run()
    first, *_, last = events(trainer, "evaluation")
    assert last["reward"]["toy"] > 0.5 * first["reward"]["toy"]


@pytest.mark.parametrize("space", ["velocity", "mean"])
def test_kl_gradient_pulls_to_the_base(toy, tmp_path, space):
    trainer = make(toy, tmp_path / "run", config(loss={"kl_weight": 1.0, "kl_space": space}))
    trainer.policy.module.adapter.bias.data.fill_(0.3)
    condition = trainer.policy.condition(["up", "down"])
    trajectory = trainer.sampler.rollout(0, range(1, 3), condition)
    # Without advantage only the KL is left.
    trainer.updates.accumulate(trajectory, condition, torch.zeros(12), torch.arange(12), 12, [0, 1])
    assert (trainer.policy.module.adapter.bias.grad > 0).all()


def test_a_share_of_the_window_is_trained(toy, tmp_path):
    trainer = make(toy, tmp_path / "run", config(window={"size": 0, "trained_share": 0.6}))
    seen = []
    accumulate = trainer.updates.accumulate
    trainer.updates.accumulate = lambda *values: seen.append(values[-1]) or accumulate(*values)
    trainer.run()
    assert events(trainer, "iteration")[0]["window"] == [0, 5]
    assert all(len(places) == 3 for places in seen) and len({tuple(places) for places in seen}) > 2


@pytest.mark.parametrize("kl_weight", [0.0, 0.5])
@pytest.mark.parametrize("shared_noise", [True, False])
def test_steps_joined_in_a_call_change_nothing(toy, tmp_path, kl_weight, shared_noise):
    """All steps of a minibatch in one call, with one sigma a row, against one image and step a call."""
    gradients, calls = [], []
    for size in (1, 1000):
        groups = dict(rollout={"shared_noise": shared_noise}, loss={"kl_weight": kl_weight})
        trainer = make(toy, tmp_path / f"{size}", config(**groups, optimizer={"batch_size": size}))
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
    whole, tight = make(toy, tmp_path / "whole"), make(toy, tmp_path / "tight")

    def limit(module, arguments):
        # The rollout takes 12 at once; the update 6, of which some share their first step.
        if len(arguments[0]) > (3 if torch.is_grad_enabled() else 4):
            raise torch.cuda.OutOfMemoryError("made up")

    tight.module.register_forward_pre_hook(limit)
    for trainer in (whole, tight):
        assert trainer.run() == "finished"
    assert (tight.sampler.batch_size.size, tight.updates.batch_size.size) == (3, 3)
    assert any("Out of memory" in event["message"] for event in events(tight, "notice"))
    for name, value in adapter(whole).items():
        torch.testing.assert_close(value, adapter(tight)[name], atol=1e-5, rtol=1e-4)


def test_a_part_is_scored_while_the_next_one_is_sampled(toy, tmp_path):
    """The first part's scorer waits for the second part's rollout: without overlap it would wait for ever."""
    second = threading.Event()

    class Waits(toy.ToyReward):
        def score(self, images, prompts):
            assert second.wait(30), "the second part wasn't sampled while the first one was scored"
            return super().score(images, prompts)

    trainer = make(toy, tmp_path / "run", config(rollout={"batch_size": 6}, run={"evaluate_every": 0}), Waits())
    rollout = trainer.sampler.rollout

    def watched(iteration, window, condition, first):
        if first == 1:
            second.set()
        return rollout(iteration, window, condition, first)

    trainer.sampler.rollout = watched
    assert len(trainer.sampler.collect(0, range(1, 3), ["up", "down"]).rewards["toy"]) == 12


def test_the_average_is_what_is_evaluated_and_saved(toy, tmp_path):
    settings = config(optimizer={"ema_decay": 0.9})
    trainer = make(toy, tmp_path / "run", settings)
    trainer.run()
    last, saved = adapter(trainer), load_file(trainer.folder.lora)
    assert not torch.equal(last["bias"], saved["bias"])
    plain = make(toy, tmp_path / "plain")
    plain.run()
    assert torch.equal(last["bias"], adapter(plain)["bias"]), "the average must not steer the training"
    assert events(trainer, "evaluation")[-1]["reward"] != events(plain, "evaluation")[-1]["reward"]


def test_the_average_survives_a_resume(toy, tmp_path):
    settings = config(optimizer={"ema_decay": 0.9}, run={"checkpoint_every": 3})
    whole = make(toy, tmp_path / "whole", settings)
    whole.run()
    broken = make(toy, tmp_path / "broken", settings)
    broken.pulse.should_stop = lambda: broken.iteration >= 5
    assert broken.run() == "cancelled"
    resumed = make(toy, tmp_path / "broken", settings)
    resumed.run()
    one, other = load_file(whole.folder.lora), load_file(resumed.folder.lora)
    assert all(torch.equal(one[name], other[name]) for name in one)


class Opposite:
    """Falls where the toy reward rises: a reward that is being hacked."""

    name = "opposite"

    def __init__(self, toy):
        self.reward = toy.ToyReward()

    def score(self, images, prompts):
        return -self.reward.score(images, prompts)


def test_the_watched_reward_is_shown_and_chooses_the_best(toy, tmp_path):
    folder = RunFolder(tmp_path / "run")
    settings = config(run={"iterations": 20, "evaluate_every": 5})
    rewards, watched = {"toy": toy.ToyReward()}, {"opposite": Opposite(toy)}
    trainer = Trainer(toy.ToyPolicy(), rewards, PROMPTS, settings, folder, folder.emit, watched=watched)
    trainer.run()
    evaluations = events(trainer, "evaluation")
    assert [e["reward"]["opposite"] for e in evaluations] == pytest.approx([-e["reward"]["toy"] for e in evaluations])
    assert evaluations[-1]["reward"]["toy"] > evaluations[0]["reward"]["toy"]
    assert "opposite" not in events(trainer, "iteration")[0]["reward"], "nothing is learned from it"
    # The watched reward only falls, so the untrained adapter stays the best one.
    assert [event["iteration"] for event in events(trainer, "best")] == [0]
    assert float(load_file(folder.best_lora)["bias"].abs().sum()) == 0
    assert float(load_file(folder.lora)["bias"].abs().sum()) > 0


def test_without_a_watched_reward_the_trained_one_chooses(toy, tmp_path):
    trainer = make(toy, tmp_path / "run", config(run={"iterations": 20, "evaluate_every": 5}))
    trainer.run()
    scores = {event["iteration"]: event["reward"]["toy"] for event in events(trainer, "evaluation")}
    best = events(trainer, "best")[-1]
    assert best["iteration"] == max(scores, key=scores.get) and best["score"] == pytest.approx(max(scores.values()))


def test_a_best_lora_of_before_a_kill_is_not_overwritten_by_a_worse_one(toy, tmp_path):
    settings = config(run={"iterations": 20, "evaluate_every": 5})
    whole = make(toy, tmp_path / "whole", settings)
    whole.run()
    broken = make(toy, tmp_path / "broken", settings)
    broken.pulse.should_stop = lambda: broken.iteration >= 12
    broken.run()
    resumed = make(toy, tmp_path / "broken", settings)
    resumed.run()
    assert [e["iteration"] for e in events(resumed, "best")] == [e["iteration"] for e in events(whole, "best")]
    one, other = load_file(whole.folder.best_lora), load_file(resumed.folder.best_lora)
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    "groups,sentence",
    [
        (dict(rollout={"steps": 1}), "steps is 1"),
        (dict(rollout={"eta": 0.0}), "eta is 0"),
        (dict(window={"size": 6}), "window size is 6 with 6 steps"),
        (dict(rollout={"group_size": 1}), "group_size is 1"),
        (dict(optimizer={"updates": 13}), "updates is 13 with 12 images"),
        (dict(rollout={"transition": "x"}), "transition is 'x'"),
        (dict(rollout={"tail_variant": "x"}), "tail_variant is 'x'"),
        (dict(window={"trained_share": 0.0}), "trained_share is 0"),
        (dict(loss={"surrogate": "x"}), "surrogate is 'x'"),
        (dict(loss={"kl_space": "x"}), "kl_space is 'x'"),
        (dict(loss={"kl_mask_threshold": 0.0}), "kl_mask_threshold must be above 0"),
        (dict(optimizer={"ema_decay": 1.0}), "ema_decay is 1"),
    ],
)
def test_bad_settings_are_named(toy, tmp_path, groups, sentence):
    with pytest.raises(ValueError, match=sentence):
        make(toy, tmp_path / "run", config(**groups))


def test_unknown_settings_are_named():
    with pytest.raises(ValueError, match="rollout.stepz"):
        TrainConfig.from_dict({"rollout": {"stepz": 3}})
