"""What a run shows beside its numbers: samples, the newest group, the schedule; and LoRAs that are asked for."""

import json

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from mixgrpo_engine.advantage import group_advantages
from mixgrpo_engine.prompts import PromptSet
from mixgrpo_engine.training import evaluation
from mixgrpo_engine.training.trainer import most_spread
from mixgrpo_engine.training.update_plan import learning_rate


def shown(toy, folder, **run):
    trainer = toy.make(folder, toy.config(run={"evaluate_every": 0, **run}))
    trainer.run()
    return trainer


def test_sampling_leaves_the_training_as_it_is_bit_for_bit(toy, tmp_path):
    with_samples, without = shown(toy, tmp_path / "with", sample_every=1), shown(toy, tmp_path / "without")
    assert len(toy.events(with_samples, "sample")) == 9 and not toy.events(without, "sample")
    both = (with_samples, without)
    one, other = (load_file(trainer.folder.lora) for trainer in both)
    assert all(torch.equal(one[name], other[name]) for name in one)
    rewards = [[event["reward"] for event in toy.events(trainer, "iteration")] for trainer in both]
    assert rewards[0] == rewards[1]


def test_without_evaluations_a_few_images_are_sampled_that_choose_nothing(toy, tmp_path):
    trainer = toy.make(
        tmp_path / "run",
        toy.config(run={"evaluate_every": 0, "sample_every": 3}),
        prompts=PromptSet(("left", "right", "up", "down", "left")),
        watched={"brightness": toy.Brightness()},
    )
    trainer.run()
    samples = toy.events(trainer, "sample")
    assert [event["iteration"] for event in samples] == [0, 3, 6, 8]
    assert all(event["prompts"] == ["left", "right", "up", "down"] for event in samples)
    assert samples[0]["images"][0]["scores"].keys() == {"toy", "brightness"}
    assert not toy.events(trainer, "evaluation") and not toy.events(trainer, "best")


def test_a_resumed_run_repeats_no_samples(toy, tmp_path):
    for _ in range(2):
        trainer = shown(toy, tmp_path / "run", sample_every=4)
    assert [event["iteration"] for event in toy.events(trainer, "sample")] == [0, 4, 8]


@pytest.mark.parametrize("run", [{"evaluate_every": 8}, {"evaluate_every": 0, "sample_every": 8}])
def test_single_images_tell_prompt_seed_and_scores(toy, tmp_path, run):
    trainer = toy.make(tmp_path / "run", toy.config(run=run))
    trainer.run()
    first, last = toy.events(trainer, "sample")
    assert last["images"][0]["file"] == "samples/000008/00.webp"
    for event in (first, last):
        assert [each["prompt"] for each in event["images"]] == event["prompts"]
        for each in event["images"]:
            assert Image.open(trainer.folder.path / each["file"]).format == "WEBP"
    assert [each["seed"] for each in first["images"]] == [each["seed"] for each in last["images"]]
    # "right" is the second of the held-out prompts: its first image is the one after the first prompt's four.
    image = next(each for each in first["images"] if each["prompt"] == "right")
    assert image["seed"] == str(evaluation.noise_seeds(0, [4])[0])
    policy = toy.ToyPolicy()
    trainer.policy.load_adapter_state(policy.adapter_state())
    with torch.no_grad():
        made = trainer.sampler.sample(["right"], [int(image["seed"])], "evaluate", trainer.held_out.steps)
    assert image["scores"]["toy"] == pytest.approx(float(toy.ToyReward().score(made, ["right"])), rel=1e-4)


def test_the_budget_of_single_images_is_kept_and_0_keeps_none(toy, tmp_path):
    none = toy.make(tmp_path / "none", toy.config(run={"images_mb": 0}))
    none.run()
    assert [event["images"] for event in toy.events(none, "sample")] == [[], [], []]
    assert all((none.folder.path / event["path"]).exists() for event in toy.events(none, "sample"))
    few = toy.make(tmp_path / "few", toy.config(run={"evaluate_every": 1}))
    few.config.run.images_mb = 1e-4  # 100 bytes
    few.run()
    kept = sorted(path.name for path in few.folder.samples.iterdir() if path.name.isdigit())
    assert kept == ["000000", "000008"] and len(list(few.folder.samples.glob("*.png"))) == 9


def test_the_newest_group_is_the_one_with_the_largest_spread(toy, tmp_path):
    trainer = toy.make(tmp_path / "run", toy.config(run={"iterations": 1}), others=[toy.Brightness()])
    seen, collect = [], trainer.sampler.collect
    trainer.sampler.collect = lambda *a: seen.append((a, collect(*a))) or seen[0][1]
    trainer.run()
    (arguments, experience) = seen[0]
    group = json.loads((trainer.folder.samples / "group" / "group.json").read_text())
    number = most_spread(experience.rewards, 6, range(2))
    assert group["iteration"] == 1 and group["prompt"] == arguments[2][number] and group["window"] == [0, 2]
    assert len(group["images"]) == 6
    advantages = group_advantages(experience.rewards, 6)
    for place, image in enumerate(group["images"], 6 * number):
        assert image["advantage"] == pytest.approx(float(advantages[place]))
        assert image["rewards"]["toy"] == pytest.approx(float(experience.rewards["toy"][place]))
        assert image["rewards"]["brightness"] == pytest.approx(float(experience.rewards["brightness"][place]))
        assert Image.open(trainer.folder.path / image["file"]).size == (2, 2)


def test_spreads_of_rewards_count_alike_and_missing_scores_not_at_all():
    nan = float("nan")
    small = torch.tensor([0.5, 0.5, 0.25, 0.5, 0.0, 0.25])  # pairs: 0, 0.125, 0.125
    large = torch.tensor([5.0, 5.0, 9.0, 5.0, 5.0, 8.0])  # 0, 2, 1.5
    assert most_spread({"small": small}, 2, range(3)) == 1, "the first of equals"
    assert most_spread({"small": small}, 2, range(2, 3)) == 2
    assert most_spread({"small": small * torch.tensor([1, 1, 1, 1, 1, 3])}, 2, range(3)) == 2
    assert most_spread({"small": small, "large": large}, 2, range(3)) == 1
    assert most_spread({"a": torch.tensor([nan, nan, 1.0, nan, 0.0, 1.0])}, 2, range(3)) == 2
    assert most_spread({"a": torch.ones(6)}, 2, range(3)) == 0


def test_events_tell_schedule_learning_rate_kl_images_and_memory(toy, tmp_path):
    settings = toy.config(
        rollout={"flash_ratio": 0.5}, optimizer={"schedule": "linear"}, loss={"kl_weight": 0.1}, run={"iterations": 3}
    )
    trainer = toy.make(tmp_path / "run", settings)
    trainer.run()
    (schedule,) = toy.events(trainer, "schedule")
    assert schedule["sigmas"] == pytest.approx(toy.ToyPolicy().sigmas(6).tolist())
    assert (schedule["flash_ratio"], schedule["shift"]) == (0.5, 3.0)
    iterations = toy.events(trainer, "iteration")
    assert [event["learning_rate"] for event in iterations] == [learning_rate(settings, i) for i in range(3)]
    assert all(event["images"] == 12 and 0 < event["memory"]["now"] <= event["memory"]["peak"] for event in iterations)
    assert 0 < iterations[0]["kl"] < iterations[-1]["kl"], "it moves away from the base"
    free = toy.make(tmp_path / "free", toy.config(rollout={"shift": 2.0}, run={"iterations": 1}))
    free.run()
    assert toy.events(free, "iteration")[0]["kl"] is None and toy.events(free, "schedule")[0]["shift"] == 2.0


def test_checkpoints_hold_the_lora_of_then(toy, tmp_path):
    settings = toy.config(optimizer={"ema_decay": 0.9})
    trainer = toy.make(tmp_path / "run", settings)
    trainer.run()
    newest = trainer.checkpoints.complete()[-1]
    saved, lora, adapter = (
        load_file(path) for path in (newest / "lora.safetensors", trainer.folder.lora, newest / "adapter.safetensors")
    )
    assert all(torch.equal(saved[name], lora[name]) for name in lora)
    assert not torch.equal(saved["bias"], adapter["bias"]), "the average is what is exported"


def test_a_lora_that_is_asked_for_is_saved_with_a_checkpoint_at_the_iterations_end(toy, tmp_path):
    settings = toy.config(optimizer={"ema_decay": 0.5}, run={"checkpoint_every": 100})
    trainer = toy.make(tmp_path / "run", settings)
    emit = trainer.emit

    def ask(event):
        emit(event)
        if event.type in ("iteration", "lora") and event.iteration == 3:
            trainer.folder.save_file.touch()  # the second time as soon as the first LoRA is told of

    trainer.emit = ask
    trainer.run()
    event, again = toy.events(trainer, "lora")
    assert (event["iteration"], event["lora"]) == (3, "run-000003.safetensors")
    assert again["iteration"] == 4, "an answer must not wipe out the next question"
    assert [event["iteration"] for event in toy.events(trainer, "checkpoint")] == [3, 4, 8]
    assert not trainer.folder.save_file.exists()
    lora = load_file(trainer.folder.path / again["lora"])
    kept = load_file(trainer.folder.checkpoints / "000004" / "lora.safetensors")
    assert all(torch.equal(lora[name], kept[name]) for name in lora)
    plain = toy.make(tmp_path / "plain", settings)
    plain.run()
    one, other = (load_file(each.folder.lora) for each in (trainer, plain))
    assert all(torch.equal(one[name], other[name]) for name in one), "asking must not steer the training"


def test_a_lora_that_cannot_be_written_costs_not_the_run(toy, tmp_path):
    trainer = toy.make(tmp_path / "run")
    trainer.folder.save_file.touch()
    export = trainer.policy.export

    def full(path, metadata):
        if path == trainer.folder.step_lora(1):
            raise OSError("No space left on device")
        export(path, metadata)

    trainer.policy.export = full
    assert trainer.run() == "finished" and not trainer.folder.save_file.exists()
    (notice,) = toy.events(trainer, "notice")
    assert notice["message"] == "The LoRA that was asked for couldn't be saved (No space left on device)."
