import json

import pytest

from mixgrpo_engine.records.events import Best, Cancelled, CheckpointSaved, Evaluation, Stage, read
from mixgrpo_engine.records.run_folder import RunFolder
from mixgrpo_engine.records.run_status import fields_of


def test_status_is_merged_and_checked(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create()
    assert folder.status() == {"state": "queued"}
    folder.set_status(state="running", iteration=3, reward={"a": float("nan")})
    folder.set_status(iteration=4)
    status = folder.status()
    assert (status["state"], status["iteration"], status["reward"]) == ("running", 4, {"a": None})
    with pytest.raises(ValueError, match="'asleep' is not a run state"):
        folder.set_status(state="asleep")


DAMAGED = [
    "", "{", "[]", "null", "[" * 100_000, json.dumps({"iteration": 1}), json.dumps({"state": 7}),
    json.dumps({"state": "asleep"}), json.dumps({"state": "running", "held_out": 5}),
    json.dumps({"state": "running", "sparkline": {"every": 1}}), json.dumps({"state": "finished", "checkpoint": "x"}),
]  # fmt: skip


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_status_is_made_again_from_the_events(tmp_path, content):
    folder = RunFolder(tmp_path / "run")
    folder.create()
    told = []
    for event in (
        Stage("train"),
        Evaluation(0, {"a": 0.5}, {}, 0.5),
        Best(0, 0.5, "best.safetensors"),
        CheckpointSaved(2, "checkpoints/000002"),
        Cancelled(3, "Cancelled after 3 of 9 iterations."),
    ):
        folder.emit(event)
        told.append(folder.set_status(**fields_of(event, folder.status())))
    folder.status_file.write_text(content)
    again = folder.status()
    assert {**again, "updated": 0} == {**told[-1], "updated": 0}
    assert (again["state"], again["checkpoint"], again["message"]) == (
        "cancelled",
        2,
        "Cancelled after 3 of 9 iterations.",
    )
    folder.set_status(state="running", message="")
    assert (folder.path / "status.json.damaged").read_text() == content
    assert json.loads(folder.status_file.read_text())["held_out"] == told[-1]["held_out"]
    notice = read(folder.events)[0][-1]
    assert notice["type"] == "notice" and str(folder.status_file) in notice["message"]


def test_a_damaged_status_says_so_where_the_run_says_nothing(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create()
    folder.status_file.mkdir()
    assert folder.status()["state"] == "queued", "its worker never said a word"
    assert folder.status()["message"].startswith(f"{folder.status_file} was damaged")
    folder.set_status(state="running")
    assert folder.status()["state"] == "running" and (folder.path / "status.json.damaged").is_dir()


def test_an_old_or_damaged_event_costs_itself_alone(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create()
    old = {
        "type": "iteration", "time": 5.0, "iteration": 7, "iterations": 9, "window": [0, 2], "reward": {"a": None},
        "reward_std": 0.1, "loss": 0.0, "grad_norm": 1.0, "ratio_deviation": 0.0, "clip_fraction": 0.0, "forwards": 9,
        "seconds": {"total": 2.0}, "eta_seconds": 4.0,
    }  # fmt: skip
    lines = [b"\xff\xfe", b"[1]", b'{"type": "evaluation"}', b'{"type": "best", "iteration": []}', b'{"type": "x"}']
    folder.events.write_bytes(b"\n".join([json.dumps(old).encode(), *lines]) + b"\n{")
    folder.status_file.write_text("{")
    told = folder.status()
    assert (told["state"], told["iteration"], told["reward"], told["updated"]) == ("running", 7, {"a": None}, 5.0)


def test_old_messages_are_made_readable(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create()
    folder.status_file.write_text(json.dumps({"state": "failed", "message": "a\0b\ud800" + "x" * 10**6}))
    told = folder.status()
    assert told["state"] == "failed" and told["message"].startswith("a\ufffdb\ufffdxxx")
    assert len(told["message"]) <= 4000
