"""Held-out prompts, the rewards that are only watched, the best LoRA, and the average that is evaluated."""

import itertools
import math

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from mixgrpo_engine.prompts import PromptSet
from mixgrpo_engine.rewards import of_one_group
from mixgrpo_engine.solvers import DPMSolverPP
from mixgrpo_engine.training.evaluation import noise_seeds


class Spy:
    """Notes what it is asked to score."""

    name = "spy"

    def __init__(self):
        self.images, self.prompts, self.of_one_group = [], [], []

    def score(self, images, prompts):
        self.of_one_group.append(of_one_group(prompts))
        self.images.append(images)
        self.prompts.append(list(prompts))
        return torch.arange(len(images)).float()


class Scripted:
    """The scores of its evaluations, one after another."""

    name = "scripted"

    def __init__(self, *scores):
        self.scores = list(scores)

    def score(self, images, prompts):
        return torch.full((len(images),), self.scores.pop(0))


def evaluated(toy, folder, times=1, **options):
    """A trainer that has only evaluated, and its spy."""
    spy = Spy()
    trainer = toy.make(folder, watched={"spy": spy}, **options)
    for iteration in range(times):
        trainer.held_out.evaluate(iteration)
    return trainer, spy


def test_images_have_noises_of_their_own_that_are_the_same_every_time(toy, tmp_path):
    _, spy = evaluated(toy, tmp_path / "run", 2)
    images = spy.images[0].flatten(1)
    assert spy.prompts == [["left"] * 4 + ["right"] * 4] * 2
    assert torch.equal(*spy.images)
    assert len(images) == 8 and float((torch.cdist(images, images) + torch.eye(8)).min()) > 1e-3
    _, other = evaluated(toy, tmp_path / "other", settings=toy.config(run={"seed": 1}))
    assert float((spy.images[0] - other.images[0]).abs().flatten(1).amax(1).min()) > 1e-3


def test_without_held_out_prompts_the_first_training_prompts_are_taken(toy, tmp_path):
    _, spy = evaluated(toy, tmp_path / "run", prompts=PromptSet(("down", "up")))
    assert spy.prompts == [["down"] * 4 + ["up"] * 4]


def test_the_grid_shows_every_prompt_before_one_twice(toy, tmp_path):
    trainer, _ = evaluated(toy, tmp_path / "run", settings=toy.config(run={"evaluate_images": 20}))
    (sample,) = toy.events(trainer, "sample")
    assert sample["prompts"] == ["left", "right"] * 8 and (trainer.folder.path / sample["path"]).exists()


def test_means_leave_out_what_could_not_be_scored(toy, tmp_path):
    class Strict(toy.ToyReward):
        def score(self, images, prompts):
            return torch.tensor([1.0, float("nan"), 3.0, 5.0] + [3.0] * 4)

        def strict(self, images, prompts):
            return torch.tensor([1.0, float("nan"), 0.0, 0.0] + [1.0] * 4)

    trainer = toy.make(tmp_path / "run", reward=Strict())
    trainer.held_out.evaluate(0)
    (event,) = toy.events(trainer, "evaluation")
    assert event["reward"] == {"toy": 3.0} and event["strict"] == {"toy": pytest.approx(5 / 7)}


def test_a_finished_evaluation_is_not_repeated(toy, tmp_path):
    for _ in range(2):
        trainer = toy.make(tmp_path / "run")
        trainer.run()
    assert [event["iteration"] for event in toy.events(trainer, "evaluation")] == [0, 4, 8]


def test_evaluation_calls_the_model_with_no_more_images_than_a_rollout(toy, tmp_path):
    trainer = toy.make(tmp_path / "run", toy.config(run={"evaluate_images": 20}))
    sizes = []
    trainer.module.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    trainer.held_out.evaluate(0)
    assert max(sizes) == 12 and sum(sizes) == 6 * 40


@pytest.mark.parametrize(("asked", "steps"), [(3, 3), (10, 6), (0, 0)])
def test_held_out_images_are_sampled_by_second_order_steps(toy, tmp_path, asked, steps):
    """The toy's training has 6 steps; more are never taken."""
    trainer, spy = evaluated(toy, tmp_path / "run", settings=toy.config(run={"evaluate_steps": asked}))
    policy, condition = trainer.policy, trainer.policy.condition(spy.prompts[0])
    noise, solver = policy.noise(noise_seeds(0, range(8))), DPMSolverPP(2, "midpoint")
    latents, sigmas = noise, policy.sigmas(steps or 6).tolist()
    for sigma, sigma_next in itertools.pairwise(sigmas):
        velocity = policy.module(latents, sigma, condition)
        latents = (
            solver.step(latents, velocity, sigma, sigma_next) if steps else latents - velocity * (sigma - sigma_next)
        )
    assert torch.allclose(spy.images[0], policy.decode(latents), atol=1e-6)
    (event,) = toy.events(trainer, "evaluation")
    assert event["steps"] == steps


@pytest.mark.parametrize("before", [3, 0, None])
def test_a_run_is_evaluated_by_the_same_steps_to_its_end(toy, tmp_path, before):
    """None: a log of a version that didn't tell, and knew only the training's own steps."""
    first = toy.make(tmp_path / "run", toy.config(run={"evaluate_steps": before or 0}))
    first.held_out.evaluate(0)
    if before is None:
        text = first.folder.events.read_text()
        first.folder.events.write_text(text.replace(', "steps": 0', ""))
        assert text != first.folder.events.read_text()
    again = toy.make(tmp_path / "run", toy.config(run={"evaluate_steps": 5}))
    again.held_out.evaluate(1)
    assert [event.get("steps", 0) for event in toy.events(again, "evaluation")] == [before or 0] * 2
    (notice,) = toy.events(again, "notice")
    assert "not as evaluate_steps says now (5 second-order steps)" in notice["message"]


def test_an_evaluation_that_a_kill_left_undone_is_made_up_for(toy, tmp_path):
    class Killed(Exception):
        pass

    broken = toy.make(tmp_path / "run")

    def kill():
        raise Killed

    sample = broken.held_out._sample
    broken.held_out._sample = lambda rows: kill() if broken.iteration == 8 else sample(rows)
    with pytest.raises(Killed):
        broken.run()
    resumed = toy.make(tmp_path / "run")
    resumed.run()
    assert [event["iteration"] for event in toy.events(resumed, "evaluation")] == [0, 4, 8]


class Opposite:
    """Falls where the toy reward rises: a reward that is being hacked."""

    name = "opposite"

    def __init__(self, toy):
        self.reward = toy.ToyReward()

    def score(self, images, prompts):
        return -self.reward.score(images, prompts)


def test_the_watched_reward_is_shown_and_chooses_the_best(toy, tmp_path):
    settings = toy.config(run={"iterations": 20, "evaluate_every": 5})
    trainer = toy.make(tmp_path / "run", settings, watched={"opposite": Opposite(toy)})
    trainer.run()
    evaluations = toy.events(trainer, "evaluation")
    assert [e["reward"]["opposite"] for e in evaluations] == pytest.approx([-e["reward"]["toy"] for e in evaluations])
    assert evaluations[-1]["reward"]["toy"] > evaluations[0]["reward"]["toy"]
    assert "opposite" not in toy.events(trainer, "iteration")[0]["reward"], "nothing is learned from it"
    # The watched reward only falls, so the untrained adapter stays the best one.
    assert [event["iteration"] for event in toy.events(trainer, "best")] == [0]
    assert float(load_file(trainer.folder.best_lora)["bias"].abs().sum()) == 0
    assert float(load_file(trainer.folder.lora)["bias"].abs().sum()) > 0


def test_without_a_watched_reward_the_trained_one_chooses(toy, tmp_path):
    trainer = toy.make(tmp_path / "run", toy.config(run={"iterations": 20, "evaluate_every": 5}))
    trainer.run()
    scores = {event["iteration"]: event["reward"]["toy"] for event in toy.events(trainer, "evaluation")}
    best = toy.events(trainer, "best")[-1]
    assert best["iteration"] == max(scores, key=scores.get) and best["score"] == pytest.approx(max(scores.values()))


def test_the_best_is_better_than_all_before(toy, tmp_path):
    scores = Scripted(1.0, 3.0, 2.0, 2.5, 3.0, 4.0)
    trainer = toy.make(tmp_path / "run", toy.config(run={"iterations": 5, "evaluate_every": 1}), watched={"s": scores})
    trainer.run()
    assert [(e["iteration"], e["score"]) for e in toy.events(trainer, "best")] == [(0, 1.0), (1, 3.0), (5, 4.0)]


def test_the_deciding_score(toy, tmp_path):
    rewards = {"toy": 1.0, "brightness": 3.0}
    others = [toy.Brightness()]
    alike = toy.make(tmp_path / "alike", others=others).held_out
    weighted = toy.make(tmp_path / "weighted", others=others, weights={"toy": 9.0, "brightness": 3.0}).held_out
    watched = toy.make(tmp_path / "watched", watched={"a": Spy(), "b": Spy()}).held_out
    assert alike.judges.decide(rewards) == 2.0
    assert weighted.judges.decide(rewards) == 1.5
    assert math.isnan(weighted.judges.decide({**rewards, "toy": None})), "half a score can't be compared"
    heavy = toy.make(
        tmp_path / "heavy", watched={"a": Spy(), "b": Spy()}, watched_weights={"a": 3.0, "b": 1.0}
    ).held_out
    assert heavy.judges.decide({"a": 1.0, "b": 5.0}) == 2.0
    assert watched.judges.decide({"toy": 7.0, "a": 1.0, "b": 2.0}) == 1.5
    assert math.isnan(watched.judges.decide({"toy": 7.0, "a": None, "b": None}))


def test_a_comparison_inside_groups_decides_nothing_beside_another_reward(toy, tmp_path):
    class WinRate(Spy):
        compares_group = True

    judges = toy.make(tmp_path / "beside", watched={"a": Spy(), "b": WinRate()}).held_out.judges
    assert judges.decide({"a": 1.0, "b": None}) == 1.0
    alone = toy.make(tmp_path / "alone", watched={"b": WinRate()}).held_out.judges
    assert math.isnan(alone.decide({"toy": 1.0, "b": None}))


def test_a_reward_without_scores_for_held_out_images_decides_nothing_beside_another(toy, tmp_path):
    class You(Spy):
        leaves_out_held_out = True

    judges = toy.make(tmp_path / "beside", watched={"a": Spy(), "you": You()}).held_out.judges
    assert judges.decide({"a": 1.0, "you": None}) == 1.0


def test_a_reward_that_is_trained_and_watched_is_told_twice(toy, tmp_path):
    trainer = toy.make(tmp_path / "run", watched={"toy": Scripted(5.0)})
    trainer.held_out.evaluate(0)
    (event,) = toy.events(trainer, "evaluation")
    assert event["reward"].keys() == {"toy", "toy (watched)"} and event["reward"]["toy (watched)"] == 5.0
    assert toy.events(trainer, "best")[0]["score"] == 5.0


def test_a_best_lora_of_before_a_kill_is_not_overwritten_by_a_worse_one(toy, tmp_path):
    settings = toy.config(run={"iterations": 20, "evaluate_every": 5})
    whole = toy.make(tmp_path / "whole", settings)
    whole.run()
    broken = toy.make(tmp_path / "broken", settings)
    broken.pulse.should_stop = lambda: broken.iteration >= 12
    broken.run()
    resumed = toy.make(tmp_path / "broken", settings)
    resumed.run()
    assert [e["iteration"] for e in toy.events(resumed, "best")] == [e["iteration"] for e in toy.events(whole, "best")]
    one, other = load_file(whole.folder.best_lora), load_file(resumed.folder.best_lora)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_average_is_what_is_evaluated_and_saved(toy, tmp_path):
    settings = toy.config(optimizer={"ema_decay": 0.9})
    trainer = toy.make(tmp_path / "run", settings)
    trainer.run()
    last, saved = toy.adapter(trainer), load_file(trainer.folder.lora)
    assert not torch.equal(last["bias"], saved["bias"])
    plain = toy.make(tmp_path / "plain")
    plain.run()
    assert torch.equal(last["bias"], toy.adapter(plain)["bias"]), "the average must not steer the training"
    assert toy.events(trainer, "evaluation")[-1]["reward"] != toy.events(plain, "evaluation")[-1]["reward"]


def test_the_average_is_over_the_iterations(toy, tmp_path):
    trainer = toy.make(tmp_path / "run", toy.config(optimizer={"ema_decay": 0.3}))
    expected, emit = toy.adapter(trainer), trainer.emit

    def follow(event):
        emit(event)
        if event.type == "iteration":
            decay = min(0.3, (1 + event.iteration) / (10 + event.iteration))
            for name, value in toy.adapter(trainer).items():
                expected[name] = decay * expected[name] + (1 - decay) * value

    trainer.emit = follow
    trainer.run()
    saved = load_file(trainer.folder.lora)
    for name, value in expected.items():
        torch.testing.assert_close(saved[name], value, atol=1e-6, rtol=1e-5)


def test_the_average_survives_a_resume(toy, tmp_path):
    settings = toy.config(optimizer={"ema_decay": 0.9}, run={"checkpoint_every": 3})
    whole = toy.make(tmp_path / "whole", settings)
    whole.run()
    broken = toy.make(tmp_path / "broken", settings)
    broken.pulse.should_stop = lambda: broken.iteration >= 5
    assert broken.run() == "cancelled"
    resumed = toy.make(tmp_path / "broken", settings)
    resumed.run()
    one, other = load_file(whole.folder.lora), load_file(resumed.folder.lora)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_scorer_that_fails_makes_no_best_and_says_why(toy, tmp_path):
    class Silent:
        name = "silent"
        failures = ["The line is dead."]

        def score(self, images, prompts):
            return torch.full((len(images),), float("nan"))

    trainer = toy.make(tmp_path / "run", watched={"silent": Silent()})
    trainer.held_out.evaluate(0)
    assert not toy.events(trainer, "best")
    assert "'silent' couldn't score" in toy.events(trainer, "notice")[0]["message"]
    assert "The line is dead." in toy.events(trainer, "notice")[0]["message"]


def test_prompts_may_have_images_of_several_sizes(toy, tmp_path):
    """Each is scored and shown in its own; an iteration's are of one."""
    policy, spy = toy.ToyPolicy(), Spy()
    policy.shapes = {"right": (1, 1, 4), "down": (1, 4, 1)}
    settings = toy.config(rollout={"prompts_per_iteration": 1}, run={"iterations": 4})
    trainer = toy.make(tmp_path / "run", settings, policy=policy, others=[spy])
    assert trainer.run() == "finished"
    assert {shown.shape[1:] for shown in spy.images} == {(2, 2, 3), (1, 4, 3), (4, 1, 3)}
    for images, prompts, of_group in zip(spy.images, spy.prompts, spy.of_one_group, strict=True):
        assert {policy.shape_of(prompt)[1:] for prompt in prompts} == {images.shape[1:3]}
        assert of_group == (prompts[0] in ("up", "down")), "held-out images of one prompt are no group to vote on"
    shown = toy.events(trainer, "sample")[-1]["images"]
    sizes = {each["prompt"]: Image.open(trainer.folder.path / each["file"]).size for each in shown}
    assert sizes == {"left": (2, 2), "right": (4, 1)}
    with pytest.raises(ValueError, match="several sizes, .* 2 prompts .*: set prompts_per_iteration to 1, or scale"):
        toy.make(tmp_path / "two", policy=policy)


def test_only_the_sizes_of_prompts_that_are_drawn_count(toy, tmp_path):
    prompts = PromptSet(("up", "down", "left"), ("right",))
    policy, settings = toy.ToyPolicy(), toy.config(run={"iterations": 1})
    drawn = prompts.drawn(1, 2, settings.run.seed)
    policy.shapes = {prompt: (1, 1, 4) for prompt in toy.TARGETS if prompt not in drawn}
    assert len(drawn) == 2 and toy.make(tmp_path / "run", settings, policy=policy, prompts=prompts).run() == "finished"


def test_scores_of_several_sizes_stay_with_their_images(toy, tmp_path):
    prompts = PromptSet(("up",), ("left", "right", "down"))
    plain, mixed = toy.ToyPolicy(), toy.ToyPolicy()
    mixed.shapes = {"right": (1, 4, 1)}  # the same values in another order of rows
    scores = []
    for folder, policy in (("plain", plain), ("mixed", mixed)):
        settings = toy.config(rollout={"prompts_per_iteration": 1})
        trainer = toy.make(tmp_path / folder, settings, policy=policy, prompts=prompts)
        trainer.held_out.evaluate(0)
        scores.append(torch.tensor(toy.events(trainer, "evaluation")[0]["scores"]))
    torch.testing.assert_close(*scores)
