"""Sampling and scoring: noises, overlap, Flash's schedule, scorers that fail."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from mixgrpo_engine.rewards import go_on
from mixgrpo_engine.rewards.scoring import score_by_each
from mixgrpo_engine.schedule import flash_sigmas, flow_sigmas
from mixgrpo_engine.solvers import DPMSolverPP
from mixgrpo_engine.training.experience import _scoring_thread
from mixgrpo_engine.transitions import TRANSITIONS, flow_sde, log_prob


def test_a_part_is_scored_while_the_next_one_is_sampled(toy, tmp_path):
    """The first part's scorer waits for the second part's rollout: without overlap it would wait for ever."""
    second = threading.Event()

    class Waits(toy.ToyReward):
        def score(self, images, prompts):
            assert second.wait(30), "the second part wasn't sampled while the first one was scored"
            return super().score(images, prompts)

    trainer = toy.make(tmp_path / "run", toy.config(rollout={"batch_size": 6}, run={"evaluate_every": 0}), Waits())
    rollout = trainer.sampler.rollout

    def watched(iteration, window, prompts, first):
        if first == 1:
            second.set()
        return rollout(iteration, window, prompts, first)

    trainer.sampler.rollout = watched
    trainer.sampler._scoring = _scoring_thread(torch.device("cuda"))  # as where the model doesn't need the CPU
    assert len(trainer.sampler.collect(0, range(1, 3), ["up", "down"]).rewards["toy"]) == 12


def test_who_calls_the_trained_model_scores_where_it_runs(toy):
    reward = toy.ToyReward()
    gpu = torch.device("cuda")
    assert type(_scoring_thread(gpu, [reward])).__name__ == "_InThread"
    reward.uses_policy = True
    assert type(_scoring_thread(gpu, [reward])).__name__ == "_AtOnce"


def test_who_abstains_fails_nothing(toy, tmp_path):
    class Silent(toy.ToyReward):
        abstains = True

        def score(self, images, prompts):
            self.failures = ["You skipped it."]
            return torch.full((len(images),), torch.nan)

    trainer = toy.make(tmp_path / "run", toy.config(run={"evaluate_every": 0, "sample_every": 0}), reward=Silent())
    assert trainer.run() == "finished"
    told = [event["message"] for event in toy.events(trainer, "notice")]
    assert sum(message.startswith("Nothing was learned from an iteration by") for message in told) == 1


def test_what_a_reward_remarks_is_told_once(toy, tmp_path):
    class Remarks(toy.ToyReward):
        calls = 0

        def score(self, images, prompts):
            self.calls += 1
            self.remarks = [f"{self.calls} images look strange."]
            return super().score(images, prompts)

    trainer = toy.make(tmp_path / "run", reward=Remarks())
    trainer.run()
    told = [event["message"] for event in toy.events(trainer, "notice")]
    assert sum("look strange" in message for message in told) == 1


def test_beside_a_model_on_the_cpu_nothing_is_scored_in_another_thread(toy, tmp_path):
    """A second thread that uses torch makes every model call after it slow: it brings OpenMP threads of its own."""
    threads = set()

    class Looks(toy.ToyReward):
        def score(self, images, prompts):
            threads.add(threading.current_thread())
            return super().score(images, prompts)

    trainer = toy.make(tmp_path / "run", toy.config(rollout={"batch_size": 6}, run={"evaluate_every": 0}), Looks())
    trainer.sampler.collect(0, range(1, 3), ["up", "down"])
    assert threads == {threading.current_thread()}


def test_a_scorer_that_looks_up_while_it_scores_can_be_stopped(toy, tmp_path):
    """Beside a model on the CPU it runs in the training's own thread."""
    stops = []

    trainer = toy.make(
        tmp_path / "run", toy.config(run={"evaluate_every": 0}), looks_up(toy, stops), should_stop=lambda: bool(stops)
    )
    assert trainer.run() == "cancelled" and len(stops) == 1


def test_a_watched_scorer_that_looks_up_while_it_scores_can_be_stopped(toy, tmp_path):
    """Before the first iteration already: the held-out prompts are scored first."""
    stops = []
    trainer = toy.make(tmp_path / "run", should_stop=lambda: bool(stops), watched={"judge": looks_up(toy, stops)})
    assert trainer.run() == "cancelled" and len(stops) == 1


def looks_up(toy, stops):
    class LooksUp(toy.ToyReward):
        def score(self, images, prompts):
            go_on()
            stops.append(True)
            go_on()
            raise AssertionError("the run went on")

    return LooksUp()


def test_a_run_that_waits_for_a_scorer_can_be_stopped(toy, tmp_path):
    """The scorer answers only when the run has given up waiting."""
    given_up, stops = threading.Event(), []

    class Sleeps(toy.ToyReward):
        def score(self, images, prompts):
            stops.append(True)
            assert given_up.wait(30), "nobody stopped waiting"
            return super().score(images, prompts)

    settings = toy.config(run={"evaluate_every": 0})
    trainer = toy.make(tmp_path / "run", settings, Sleeps(), should_stop=lambda: bool(stops))
    trainer.sampler._scoring = _scoring_thread(torch.device("cuda"))
    assert trainer.run() == "cancelled"
    given_up.set()


@pytest.mark.parametrize(
    "transition,eta,order,variant",
    [
        ("flow_sde", 0.7, 1, "midpoint"),
        ("flow_sde", 0.3, 2, "midpoint"),
        ("dance_sde", 0.5, 2, "heun"),
        ("cps", 0.9, 3, "midpoint"),
    ],
)
def test_the_settings_reach_the_rollout(toy, tmp_path, transition, eta, order, variant):
    rollout = {"steps": 8, "transition": transition, "eta": eta, "tail_order": order, "tail_variant": variant}
    sampler = toy.make(tmp_path / "run", toy.config(rollout=rollout)).sampler
    trajectory = sampler.rollout(0, range(1, 3), ["up", "down"])
    images = sampler.policy.condition(["up"] * 6 + ["down"] * 6)
    levels = trajectory.sigmas.tolist()
    for place, step in enumerate(trajectory.window):
        before, after = trajectory.states[place : place + 2]
        velocity = sampler.module(before, levels[step], images)
        mean, std = TRANSITIONS[transition](before, velocity, levels[step], levels[step + 1], eta)
        torch.testing.assert_close(log_prob(after, mean, std), trajectory.log_probs[place])
    latents, tail = trajectory.states[-1], DPMSolverPP(order, variant)
    for sigma, sigma_next in zip(levels[3:-1], levels[4:], strict=True):
        latents = tail.step(latents, sampler.module(latents, sigma, images), sigma, sigma_next)
    torch.testing.assert_close(trajectory.latents, latents)
    assert trajectory.means is None, "only what the surrogate needs is kept"


def noises(toy, folder, iteration=0, seed=0, shared_noise=True):
    """(3, 12, 4): what an iteration's 12 images start from, and the noises that its two window steps have drawn."""
    settings = toy.config(rollout={"shared_noise": shared_noise}, loss={"surrogate": "ratio_norm"}, run={"seed": seed})
    sampler = toy.make(folder, settings).sampler
    trajectory = sampler.rollout(iteration, range(0, 2), ["up", "down"])
    found, levels = [trajectory.states[0]], trajectory.sigmas.tolist()
    for place in range(2):
        drawn = trajectory.states[place + 1] - trajectory.means[place]
        _, std = flow_sde(drawn, drawn, levels[place], levels[place + 1], settings.rollout.eta)
        found.append(drawn / std)
    return torch.stack(found).flatten(2)


def smallest_distance(one, other):
    return float(torch.cdist(one.flatten(0, 1), other.flatten(0, 1)).min())


def test_every_image_has_its_own_noise(toy, tmp_path):
    apart = noises(toy, tmp_path / "apart", shared_noise=False)
    distances = torch.cdist(*[apart.flatten(0, 1)] * 2) + 9 * torch.eye(36)
    assert float(distances.min()) > 0.01, "neither images nor steps nor start and window share a noise"
    shared = noises(toy, tmp_path / "shared")
    assert torch.equal(shared[0], shared[0, [0] * 6 + [6] * 6]) and not torch.equal(shared[0, 0], shared[0, 6])
    torch.testing.assert_close(shared[1:], apart[1:], atol=1e-4, rtol=1e-4)


def test_noises_are_those_of_the_seed_and_the_iteration(toy, tmp_path):
    one = noises(toy, tmp_path / "one")
    assert torch.equal(one, noises(toy, tmp_path / "again"))
    for changes in ({"iteration": 1}, {"seed": 1}):
        assert smallest_distance(one, noises(toy, tmp_path / "other", **changes)) > 0.01, changes


@pytest.mark.parametrize("shared", [True, False])
def test_noises_do_not_depend_on_how_prompts_are_split_up(toy, tmp_path, shared):
    settings = toy.config(rollout={"shared_noise": shared})
    sampler = toy.make(tmp_path / "run", settings).sampler
    whole = sampler.rollout(3, range(1, 3), ["up", "down"])
    part = sampler.rollout(3, range(1, 3), ["down"], first=1)
    torch.testing.assert_close(whole.states[:, 6:], part.states)


def test_a_groups_images_are_scored_with_their_own_prompt(toy, tmp_path):
    calls = []

    class Spy(toy.ToyReward):
        def score(self, images, prompts):
            calls.append((images, prompts))
            return super().score(images, prompts)

    sampler = toy.make(tmp_path / "run", reward=Spy()).sampler
    experience = sampler.collect(0, range(1, 3), ["down", "up"])
    assert [prompts for _, prompts in calls] == [["down"] * 6, ["up"] * 6]
    images, prompts = torch.cat([images for images, _ in calls]), ["down"] * 6 + ["up"] * 6
    assert torch.equal(images, sampler.policy.decode(experience.trajectory.latents))
    assert torch.equal(experience.rewards["toy"], toy.ToyReward().score(images, prompts))


@pytest.mark.parametrize("shift,used", [(0.0, 3.0), (5.0, 5.0)])
def test_the_shift_is_the_settings_or_the_models(toy, tmp_path, shift, used):
    settings = toy.config(rollout={"shift": shift, "flash_ratio": 0.4})
    sampler = toy.make(tmp_path / "run", settings).sampler
    assert torch.equal(sampler.sigmas, flow_sigmas(6, used))
    trajectory = sampler.rollout(0, range(1, 3), ["up"])
    assert torch.equal(trajectory.sigmas, flash_sigmas(flow_sigmas(6, used), range(1, 3), 0.4, used))


def test_flash_re_spaces_with_the_models_shift_and_saves_forwards(toy, tmp_path):
    flash = toy.make(tmp_path / "run", toy.config(rollout={"flash_ratio": 0.7, "tail_order": 2}))
    trajectory = flash.sampler.rollout(0, range(1, 3), ["up", "down"])
    assert trajectory.forwards == 2 * 2 + (1 + 2) * 12  # of the 3 steps after the window, floor(2.1) = 2 are left
    time_left = trajectory.sigmas / (3 - 2 * trajectory.sigmas)  # shift 3 undone: evenly spaced
    torch.testing.assert_close(time_left[3:], time_left[3] * torch.tensor([1.0, 0.5, 0.0]))


def test_a_scorer_that_fails_on_everything_stops_the_run_with_one_sentence(toy, tmp_path):
    class Broken:
        name = "broken"

        def score(self, images, prompts):
            return torch.full((len(images),), float("nan"))

    with pytest.raises(RuntimeError, match="'broken' could score none of the 12 images"):
        toy.make(tmp_path / "run", toy.config(run={"evaluate_every": 0}), reward=Broken()).run()


class Wearing:
    """A scorer that gives up after some calls, and says why."""

    name = "wearing"

    def __init__(self, good_calls):
        self.left, self.failures = good_calls, []

    def score(self, images, prompts):
        self.left -= 1
        self.failures = ["The judge has gone home."] if self.left < 0 else []
        return images.flatten(1).mean(1) if self.left >= 0 else torch.full((len(images),), torch.nan)


def test_a_scorer_that_keeps_failing_stops_the_run_with_its_reason_and_the_checkpoint_kept(toy, tmp_path):
    """Two groups an iteration: three good iterations, then three bad ones; checkpoints are due every 50."""
    settings = toy.config(run={"evaluate_every": 0, "iterations": 100, "checkpoint_every": 50})
    trainer = toy.make(tmp_path / "run", settings, reward=Wearing(6))
    with pytest.raises(RuntimeError, match="The judge has gone home. This happened 3 times in a row."):
        trainer.run()
    assert [event["iteration"] for event in toy.events(trainer, "checkpoint")] == [5]
    assert len(toy.events(trainer, "notice")) == 2
    before = toy.adapter(trainer)
    again = toy.make(tmp_path / "run", settings, reward=Wearing(1000))
    assert again.checkpoints.load_newest(print)["iteration"] == 5
    assert all(torch.equal(before[name], value) for name, value in toy.adapter(again).items())


def test_nothing_is_saved_when_the_error_comes_between_an_iterations_updates(toy, tmp_path):
    trainer = toy.make(tmp_path / "run", toy.config(run={"evaluate_every": 0, "checkpoint_every": 50}))
    step, steps = trainer.optimizer.step, []

    def breaks():
        steps.append(trainer.iteration)
        if steps[-2:] == [1, 1]:  # the second iteration's second update
            raise ValueError("broken")
        return step()

    trainer.optimizer.step = breaks
    with pytest.raises(ValueError, match="broken"):
        trainer.run()
    assert trainer.iteration == 1 and not toy.events(trainer, "checkpoint")


def test_some_images_without_a_score_are_told_with_the_reason_once_an_iteration(toy, tmp_path):
    class Squints(toy.ToyReward):
        failures = ["Too dark."]

        def score(self, images, prompts):
            scores = super().score(images, prompts)
            scores[0] = torch.nan
            return scores

    trainer = toy.make(tmp_path / "run", toy.config(run={"evaluate_every": 0}), reward=Squints())
    trainer.sampler.collect(0, range(1, 3), ["up", "down"])
    assert [event["message"] for event in toy.events(trainer, "notice")] == [
        "The reward 'toy' couldn't score 2 of 12 images. Too dark."
    ]


def test_one_bad_prompt_does_not_end_the_run(toy, tmp_path):
    class Picky(toy.ToyReward):
        name = "picky"

        def score(self, images, prompts):
            scores = super().score(images, prompts)
            return torch.where(torch.tensor([p == "down" for p in prompts]), torch.nan, scores)

    trainer = toy.make(tmp_path / "run", toy.config(rollout={"prompts_per_iteration": 1}), reward=Picky())
    assert trainer.run() == "finished"
    assert "could score none" in toy.events(trainer, "notice")[0]["message"]


def test_a_scorer_of_the_wrong_length_is_named(toy, tmp_path):
    class Mean(toy.ToyReward):
        def score(self, images, prompts):
            return super().score(images, prompts).mean()

    with pytest.raises(ValueError, match="one an image"):
        toy.make(tmp_path / "run", toy.config(run={"evaluate_every": 0}), reward=Mean()).run()


def test_an_image_that_is_not_finite_has_no_score(toy):
    images = torch.zeros(6, 2, 2, 3)
    images[2, 0, 0, 0] = float("inf")
    scores = score_by_each({"toy": toy.ToyReward()}, images, ["up"] * 6).values["toy"]
    assert scores.isnan().tolist() == [False, False, True, False, False, False]


def test_an_infinite_score_is_a_failed_one(toy):
    class Overflowing(toy.ToyReward):
        def score(self, images, prompts):
            return [float("inf"), 0.5, float("-inf"), 1.0]

    scores = score_by_each({"toy": Overflowing()}, torch.zeros(4, 2, 2, 3), ["up"] * 4).values["toy"]
    assert scores.isnan().tolist() == [True, False, True, False] and scores[3] == 1


def test_a_scorer_that_never_returns_does_not_keep_the_process_alive():
    code = (
        "import threading, torch\n"
        "from mixgrpo_engine.training.experience import _scoring_thread\n"
        "_scoring_thread(torch.device('cuda')).submit(threading.Event().wait)\n"
    )
    root = Path(__file__).resolve().parents[3]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, timeout=120).returncode == 0


def test_what_a_scoring_thread_raises_is_raised_where_the_scores_are_waited_for():
    thread = _scoring_thread(torch.device("cuda"))

    def fail():
        raise KeyError("gone")

    first, second = thread.submit(fail), thread.submit(lambda: 5)
    assert second.result(60) == 5
    with pytest.raises(KeyError, match="gone"):
        first.result(60)
