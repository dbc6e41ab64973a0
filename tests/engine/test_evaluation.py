"""Held-out prompts, the rewards that are only watched, the best LoRA, and the average that is evaluated."""

import pytest
import torch
from safetensors.torch import load_file


def test_evaluation_calls_the_model_with_no_more_images_than_a_rollout(toy, tmp_path):
    trainer = toy.make(tmp_path / "run", toy.config(run={"evaluate_images": 20}))
    sizes = []
    trainer.module.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    trainer.held_out.evaluate(0)
    assert max(sizes) == 12 and sum(sizes) == 6 * 40


def test_an_evaluation_that_a_kill_left_undone_is_made_up_for(toy, tmp_path):
    class Killed(Exception):
        pass

    broken = toy.make(tmp_path / "run")

    def kill():
        raise Killed

    sample = broken.held_out._sample
    broken.held_out._sample = lambda: kill() if broken.iteration == 8 else sample()
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
