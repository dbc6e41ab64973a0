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


def test_an_old_checkpoint_that_a_kill_has_left_is_removed_by_the_resume(toy, tmp_path):
    whole = toy.make(tmp_path / "run")
    whole.run()
    (whole.folder.checkpoints / "000004").mkdir()  # half removed
    assert toy.make(tmp_path / "run").run() == "finished"
    assert [path.name for path in sorted(whole.folder.checkpoints.iterdir())] == ["000006", "000008"]


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


GOOD = {"iteration": 8, "split": False, "forwards": 504, "train_seconds": 1.5}


@pytest.mark.parametrize("file", ["adapter.safetensors", "optimizer.bin", "progress.json"])
@pytest.mark.parametrize("content", [b"damaged", b"", None])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(toy, tmp_path, file, content):
    goes_on_from_6(toy, tmp_path, file, content)


@pytest.mark.parametrize(
    "progress",
    [
        "[]", "null", "7", "[" * 100_000, '{"iteration": 3}', '{"iteration": 1e400, "forwards": 1, "train_seconds": 1}',
        *(json.dumps({**GOOD, **wrong}) for wrong in (
            {"iteration": 3}, {"iteration": -5}, {"iteration": "8"}, {"iteration": 8.0}, {"forwards": None},
            {"forwards": -1}, {"train_seconds": "x"}, {"train_seconds": -1}, {"train_seconds": float("inf")},
        )),
    ],
)  # fmt: skip
def test_a_checkpoint_that_says_nonsense_gives_way_to_the_one_before(toy, tmp_path, progress):
    goes_on_from_6(toy, tmp_path, "progress.json", progress.encode())


def goes_on_from_6(toy, tmp_path, file, content):
    whole = toy.make(tmp_path / "run")
    whole.run()
    newest = whole.folder.checkpoints / "000008"
    if content is None:
        (newest / file).unlink()
    else:
        (newest / file).write_bytes(content)
    resumed = toy.make(tmp_path / "run")
    assert resumed.run() == "finished"
    message = toy.events(resumed, "notice")[0]["message"]
    assert f"{newest} can't be read" in message and "000008.damaged" in message and "from 000006" in message
    assert [event["iteration"] for event in toy.events(resumed, "checkpoint")][-2:] == [6, 8]
    assert (whole.folder.checkpoints / "000008.damaged").is_dir(), "for people to look at"
    for name, value in toy.adapter(whole).items():
        assert torch.equal(value, toy.adapter(resumed)[name])


def test_others_files_and_links_among_the_checkpoints_are_no_checkpoints(toy, tmp_path):
    toy.make(tmp_path / "run", toy.config(run={"iterations": 10})).run()
    whole = toy.make(tmp_path / "run")  # its last one is of 10 iterations
    checkpoints, outside = whole.folder.checkpoints, tmp_path / "outside"
    outside.mkdir()
    (checkpoints / "000012").write_text("a file")
    (checkpoints / "000013").symlink_to(tmp_path / "nowhere")
    (checkpoints / "000014").symlink_to(outside)
    (checkpoints / "000015").mkdir()
    for name in ("7", "\u00b2", "\u0663", "notes"):
        (checkpoints / name).mkdir()
    (checkpoints / ".file.tmp").write_text("a file")
    (checkpoints / ".link.tmp").symlink_to(outside)
    resumed = toy.make(tmp_path / "run", toy.config(run={"iterations": 12}))
    assert resumed.run() == "finished"
    assert [event["iteration"] for event in toy.events(resumed, "iteration")] == [*range(1, 13)]
    assert len(toy.events(resumed, "notice")) == 4
    assert {path.name for path in checkpoints.iterdir()} == {
        "7", "\u00b2", "\u0663", "notes", "000010", "000012", "000012.damaged", "000013.damaged", "000014.damaged",
        "000015.damaged",
    }  # fmt: skip
    assert outside.is_dir()


def test_damaged_lines_of_the_log_cost_themselves_alone(toy, tmp_path):
    def run(path, *lines):
        broken = toy.make(path)
        broken.pulse.should_stop = lambda: broken.iteration >= 4
        broken.run()
        with open(broken.folder.events, "ab") as log:
            log.write(b"\n".join(lines))
        resumed = toy.make(path)
        assert resumed.run() == "finished"
        return resumed

    lines = (
        b"[]", b"5", b"\xff\xfe", b"[" * 100_000, b'{"type": 3}', b'{"type": "sample"}', b'{"type": "iteration"}',
        b'{"type": "evaluation", "iteration": 4}', b'{"type": "evaluation", "iteration": [], "reward": {}}',
        b'{"type": "iteration", "iteration": 3, "reward": 5}', b'{"type": "evaluation", "iter',
    )  # fmt: skip
    whole, resumed = run(tmp_path / "whole"), run(tmp_path / "damaged", *lines)
    for name, value in toy.adapter(whole).items():
        assert torch.equal(value, toy.adapter(resumed)[name])


def test_only_damaged_checkpoints_end_the_run_with_one_sentence(toy, tmp_path):
    trainer = toy.make(tmp_path / "run")
    trainer.run()
    for path in trainer.checkpoints.complete():
        (path / "adapter.safetensors").write_bytes(b"damaged")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="No checkpoint in .* can be read"):
            toy.make(tmp_path / "run").run()
    assert len(trainer.checkpoints.complete()) == 2, "a second try doesn't start anew in silence either"


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
