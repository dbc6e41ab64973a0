"""The best LoRA of a run as its folder tells of it: which file is meant, what is missing, the mark in the curve."""

import importlib
import json
import os

import pytest


@pytest.fixture
def runs(pack, tmp_path, monkeypatch):
    import folder_paths

    for name in ("curve", "history", "published_lora", "paths", "liveness", "overview"):
        importlib.import_module(f"{pack.__name__}.nodes.runs.{name}")
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    return pack.nodes.runs


@pytest.fixture
def folder(runs):
    """A finished run with a last LoRA."""
    made = runs.paths.folder_of("some-run-12345678")
    made.create()
    made.job.write_text(json.dumps({"name": "Some run"}))
    made.set_status(state="finished")
    made.lora.write_bytes(b"last")
    return made


def test_each_lora_is_published_under_its_name_again_when_it_was_deleted(runs, folder):
    folder.set_status(best={"iteration": 1, "score": 0.5, "lora": None})
    folder.best_lora.write_bytes(b"best")
    for which, name in (("last", "some-run-12345678"), ("best", "some-run-12345678-best")):
        before = runs.published_lora.version(folder, which)
        runs.published_lora.require_finished(folder, which)
        published = runs.paths.output_directory() / "loras" / "mixgrpo" / f"{name}.safetensors"
        assert published.read_bytes() == which.encode()
        assert runs.published_lora.name(folder, which) == f"mixgrpo/{name}.safetensors"
        assert runs.published_lora.version(folder, which) != before
    assert [file["filename"] for file in runs.overview.summary(folder)["files"]] == [
        "some-run-12345678.safetensors",
        "some-run-12345678-best.safetensors",
    ]


def test_a_run_that_was_never_measured_has_no_best(runs, folder):
    with pytest.raises(ValueError, match="has no best LoRA, because its evaluate_every was 0: set which to last"):
        runs.published_lora.require_finished(folder, "best")
    runs.published_lora.require_finished(folder)
    assert runs.overview.summary(folder).get("best") is None


def test_a_best_lora_that_is_gone_everywhere_is_told(runs, folder):
    folder.set_status(best={"iteration": 1, "score": None, "lora": "mixgrpo/some-run-12345678-best.safetensors"})
    with pytest.raises(ValueError, match="The best LoRA of run some-run-12345678 is gone, also from its folder"):
        runs.published_lora.require_finished(folder, "best")


def test_which_is_last_or_best(runs, folder):
    with pytest.raises(ValueError, match="which is 'worst': choose last or best."):
        runs.published_lora.require_finished(folder, "worst")


@pytest.mark.parametrize(
    "best", ["1", [], {}, {"iteration": "1"}, {"iteration": 1, "score": "x"}, {"iteration": 1, "lora": ["a"]}]
)
def test_damaged_best_is_made_again_from_the_events(runs, folder, best):
    folder.set_status(best=best)
    folder.events.write_text(
        json.dumps({"type": "best", "time": 1.0, "iteration": 2, "score": 0.5, "lora": "x"}) + "\n"
    )
    summary = runs.overview.summary(folder)
    assert summary["best"] == {"iteration": 2, "score": 0.5, "lora": None} and summary["state"] == "dead"
    assert f"{folder.status_file} was damaged and is made again from events.jsonl." == summary["message"]


def test_a_finished_run_finds_its_loras_without_its_status(runs, folder):
    for which in ("last", "best"):
        runs.paths.lora_file(folder.name, which).parent.mkdir(parents=True, exist_ok=True)
        runs.paths.lora_file(folder.name, which).touch()
    for line in ({"type": "best", "iteration": 2, "score": 0.5, "lora": "x"}, {"type": "done", "iteration": 3}):
        with open(folder.events, "a") as log:
            log.write(json.dumps(line) + "\n")
    folder.status_file.write_text("{")
    told = runs.stored.status(folder)
    assert told["lora"] == f"mixgrpo/{folder.name}.safetensors" and told["state"] == "finished"
    assert told["best"]["lora"] == f"mixgrpo/{folder.name}-best.safetensors"


def test_a_cancelled_run_finds_the_best_lora_that_it_has_published(runs, folder):
    published = runs.paths.lora_file(folder.name, "best")
    published.parent.mkdir(parents=True, exist_ok=True)
    for path in (folder.best_lora, published):
        path.write_bytes(b"best")
    folder.events.write_text(json.dumps({"type": "best", "iteration": 2, "score": 0.5}) + "\n")
    folder.status_file.write_text("{")
    os.utime(published, ns=(9 * 10**18, folder.best_lora.stat().st_mtime_ns))
    assert runs.stored.status(folder)["best"]["lora"] == f"mixgrpo/{folder.name}-best.safetensors"
    os.utime(published, ns=(9 * 10**18, folder.best_lora.stat().st_mtime_ns - 1))
    assert runs.stored.status(folder)["best"]["lora"] is None, "that of an earlier training"


def test_curve_marks_the_best_iteration(runs, folder):
    lines = [
        {"type": "best", "iteration": 0, "score": 0.1},
        {"type": "evaluation", "iteration": 0, "reward": {"a": 0.1}},
        {"type": "evaluation", "iteration": 2, "reward": {"a": 0.0}},
    ]
    folder.events.write_text("".join(json.dumps(line) + "\n" for line in lines[1:]))
    plain = runs.curve.draw(folder).read_bytes()
    folder.events.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert runs.curve.draw(folder).read_bytes() != plain
    with open(folder.events, "a") as log:
        log.write(json.dumps({"type": "best", "iteration": 2, "score": 0.2}) + "\n")
    best = runs.history.HISTORIES.ask(folder, lambda history: history.best)
    assert best == {"iteration": 2, "score": 0.2, "lora": None}
