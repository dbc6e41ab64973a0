"""Checkpoints: a resume ends bit for bit where the run would have ended, and no damage goes unnoticed."""

import json

import pytest
import torch


@pytest.mark.parametrize("stop_after", [3, 4])
def test_a_resumed_run_ends_bit_for_bit_as_an_uninterrupted_one(toy, tmp_path, stop_after):
    whole = toy.make(tmp_path / "whole")
    whole.run()

    class Killed(Exception):
        pass

    def kill(event):
        if event.type == "iteration" and event.iteration == stop_after:
            raise Killed

    broken = toy.make(tmp_path / "broken")
    broken.emit = kill
    with pytest.raises(Killed):
        broken.run()
    torch.manual_seed(999)  # a new process starts with other global random numbers
    resumed = toy.make(tmp_path / "broken")
    assert resumed.run() == "finished"
    assert toy.events(resumed, "stage")[0]["name"] == "resume"
    for name, value in toy.adapter(whole).items():
        assert torch.equal(value, toy.adapter(resumed)[name]), name
    assert resumed.forwards == whole.forwards


def test_ratio_is_1_before_the_first_update_after_a_resume(toy, tmp_path):
    settings = toy.config(optimizer={"updates": 1})
    broken = toy.make(tmp_path / "run", settings)
    broken.pulse.should_stop = lambda: broken.iteration >= 3
    assert broken.run() == "cancelled"
    resumed = toy.make(tmp_path / "run", settings)
    resumed.run()
    again = toy.events(resumed, "iteration")[3:]
    assert [event["iteration"] for event in again] == [4, 5, 6, 7, 8]
    assert max(event["ratio_deviation"] for event in again) < 1e-5


def test_a_half_written_checkpoint_is_ignored(toy, tmp_path):
    trainer = toy.make(tmp_path / "run")
    (trainer.folder.checkpoints / ".000002.tmp").mkdir()
    (trainer.folder.checkpoints / ".000003.tmp").mkdir()
    trainer.run()
    assert not list(trainer.folder.checkpoints.glob(".*")), "what a kill has left is removed by the next checkpoint"
    (trainer.folder.checkpoints / ".000010.tmp").mkdir()
    assert trainer.checkpoints.complete()[-1].name == "000008"
    assert [path.name for path in sorted(trainer.folder.checkpoints.glob("0*"))] == ["000006", "000008"]


def test_the_last_iteration_has_a_checkpoint_whatever_its_number(toy, tmp_path):
    trainer = toy.make(tmp_path / "run", toy.config(run={"iterations": 5, "checkpoint_every": 3}))
    trainer.run()
    assert [event["path"] for event in toy.events(trainer, "checkpoint")] == [
        "checkpoints/000003",
        "checkpoints/000005",
    ]


def test_a_resumed_run_goes_on_counting_its_seconds(toy, tmp_path):
    toy.make(tmp_path / "run").run()
    progress = tmp_path / "run" / "checkpoints" / "000008" / "progress.json"
    progress.write_text(json.dumps({**json.loads(progress.read_text()), "train_seconds": 1000.0}))
    resumed = toy.make(tmp_path / "run")
    resumed.run()
    assert toy.events(resumed, "done")[-1]["train_seconds"] >= 1000


def test_checkpoints_are_ordered_by_number(toy, tmp_path):
    trainer = toy.make(tmp_path / "run")
    for name in ("999990", "1000000"):
        (trainer.folder.checkpoints / name).mkdir()
    assert [path.name for path in trainer.checkpoints.complete()] == ["999990", "1000000"]


@pytest.mark.parametrize("file", ["adapter.safetensors", "optimizer.bin", "progress.json"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(toy, tmp_path, file):
    whole = toy.make(tmp_path / "run")
    whole.run()
    (whole.folder.checkpoints / "000008" / file).write_bytes(b"damaged")
    resumed = toy.make(tmp_path / "run")
    assert resumed.run() == "finished"
    assert "000008 can't be read" in toy.events(resumed, "notice")[0]["message"]
    for name, value in toy.adapter(whole).items():
        assert torch.equal(value, toy.adapter(resumed)[name])


def test_only_damaged_checkpoints_end_the_run_with_one_sentence(toy, tmp_path):
    trainer = toy.make(tmp_path / "run")
    trainer.run()
    for path in trainer.checkpoints.complete():
        (path / "adapter.safetensors").write_bytes(b"damaged")
    with pytest.raises(RuntimeError, match="No checkpoint in .* can be read"):
        toy.make(tmp_path / "run").run()


def test_an_adapter_that_is_not_finite_is_never_saved(toy, tmp_path):
    trainer = toy.make(tmp_path / "run")
    trainer.policy.module.adapter.bias.data[0] = float("nan")
    with pytest.raises(RuntimeError, match="isn't saved"):
        trainer.checkpoints.save(1, {})
    assert trainer.checkpoints.complete() == []


@pytest.mark.parametrize("can_tell", [True, False])
def test_an_error_stays_the_one_that_is_told_when_saving_fails_after_it(toy, tmp_path, can_tell):
    class Breaks(toy.ToyReward):
        def score(self, images, prompts):
            if len(toy.events(trainer, "iteration")) == 3:
                raise RuntimeError("The scorer is gone.")
            return super().score(images, prompts)

    def full(*_):
        raise OSError("No space left on device")

    trainer = toy.make(tmp_path / "run", toy.config(run={"evaluate_every": 0, "checkpoint_every": 2}), Breaks())
    save = trainer.checkpoints.save
    trainer.checkpoints.save = lambda iteration, progress: save(iteration, progress) if iteration < 3 else full()
    if not can_tell:
        trainer.pulse.notice = full
    with pytest.raises(RuntimeError, match="The scorer is gone."):
        trainer.run()
    notices = [event["message"] for event in toy.events(trainer, "notice")]
    lost = "What was trained after iteration 2 couldn't be saved (No space left on device): the run goes on from there."
    assert notices == ([lost] if can_tell else [])
