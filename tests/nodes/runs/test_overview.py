"""The list of runs: true without reading what hasn't changed, filtered and in pages; which actions would work."""

import json
import os

import pytest

OLD = 1.7e9


@pytest.fixture
def make(runs, monkeypatch):
    """`make(name, state, **fields)` is the folder of a run that ended long ago, with its own job."""
    import nodes

    monkeypatch.setitem(nodes.NODE_CLASS_MAPPINGS, "Test_Loader", type("Loader", (), {}))
    graph = {"1": {"class_type": "Test_Loader", "inputs": {}}}

    def made(run_id, state, schedule="constant", checkpoint=2, **fields):
        folder = runs.paths.folder_of(run_id)
        folder.create()
        config = {"run": {"iterations": 3}, "optimizer": {"schedule": schedule}}
        job = {"name": run_id.title(), "run_id": run_id, "config": config, "graph": graph, "node_id": "7"}
        folder.job.write_text(json.dumps(runs.signature.signed(job, runs.signature.install_key())))
        folder.status_file.write_text(json.dumps({"state": state, "updated": OLD, **fields}))
        if checkpoint:
            (folder.checkpoints / f"{checkpoint:06d}").mkdir()
        return folder

    return made


def change(folder, **fields):
    folder.status_file.write_text(json.dumps({**json.loads(folder.status_file.read_text()), **fields}))


def test_unchanged_runs_are_not_read_again(runs, make, monkeypatch):
    first, second = make("first", "finished"), make("second", "failed", message="No.")
    runs.overview.summaries()
    read = []
    status = runs.stored.status
    monkeypatch.setattr(runs.stored, "status", lambda folder: read.append(folder.name) or status(folder))
    monkeypatch.setattr(runs.stored, "job", lambda folder: pytest.fail(f"job.json of {folder.name} was read again"))
    runs.overview.summaries()
    assert not read
    change(second, message="Never.")
    assert {each["run_id"]: each.get("message") for each in runs.overview.summaries()} == {
        "first": None,
        "second": "Never.",
    }
    assert set(read) == {"second"}
    runs.about.write(first, {"name": "Mine", "note": "good"})
    told = runs.overview.summary(first)
    assert (told["name"], told["note"]) == ("Mine", "good")


def test_the_next_server_takes_the_summaries_that_still_hold(runs, make, monkeypatch):
    import nodes

    make("one", "finished")
    other = make("other", "failed", message="No.")
    make("third", "finished").job.write_text("{")
    before = runs.overview.summaries()
    runs.follow.Follower(lambda *_: None).skip_the_past()
    read = []
    status = runs.stored.status
    monkeypatch.setattr(runs.stored, "status", lambda folder: read.append(folder.name) or status(folder))

    def after_a_restart():
        read.clear()
        runs.overview._known.clear()
        runs.overview._taken_from.clear()
        return runs.overview.summaries()

    assert after_a_restart() == before and read == ["third"], "what couldn't be read is looked at again"
    change(other, message="Never.")
    told = {each["run_id"]: each.get("message") for each in after_a_restart()}
    assert (told["one"], told["other"]) == (None, "Never.") and set(read) == {"other", "third"}
    kept = runs.paths.runs_directory() / runs.overview.KEPT
    whole = kept.read_bytes()
    for forged in (b"", whole[:-1], whole.replace(b"finished", b"unfinish")):
        kept.write_bytes(forged)
        after_a_restart()
        assert set(read) == {"one", "other", "third"}
    kept.write_bytes(whole)
    monkeypatch.delitem(nodes.NODE_CLASS_MAPPINGS, "Test_Loader")
    assert all("restart" in each["actions"] for each in before[1:])
    assert not any("restart" in each["actions"] for each in after_a_restart())


def test_what_could_not_be_read_is_not_kept(runs, make, monkeypatch):
    folder = make("one", "finished")
    runs.about.write(folder, {"name": "Mine"})
    for file, broken in ((folder.job, "one"), (folder.path / "about.json", "One")):
        whole = file.read_bytes()
        stamp = file.stat().st_mtime_ns
        file.write_bytes(b"x" * len(whole))
        os.utime(file, ns=(stamp, stamp))
        runs.overview._known.clear()
        runs.overview.summaries()
        runs.overview.keep()
        file.write_bytes(whole)
        os.utime(file, ns=(stamp, stamp))
        runs.overview._known.clear()
        runs.overview._taken_from.clear()
        told = runs.overview.summaries()[0]
        assert (told["state"], told["name"]) == ("finished", "Mine"), broken


def test_published_loras_come_and_go(runs, make):
    folder = make("some-run", "finished")
    make("some-run-2", "finished")
    assert runs.overview.summary(folder)["files"] == []
    loras = runs.paths.lora_folder()
    loras.mkdir(parents=True)
    names = ["some-run.safetensors", "some-run-best.safetensors", "some-run-000012.safetensors"]
    for name in (*reversed(names), "some-run-2.safetensors", "some-run-2-000120.safetensors", "else.txt"):
        (loras / name).touch()
    assert [file["filename"] for file in runs.overview.summary(folder)["files"]] == names
    assert [file["filename"] for file in runs.overview.summaries()[0]["files"]] in (
        names, ["some-run-2.safetensors", "some-run-2-000120.safetensors"],
    )  # fmt: skip
    (loras / names[0]).unlink()
    assert [file["filename"] for file in runs.overview.summary(folder)["files"]] == names[1:]
    assert runs.paths.lora_file("some-run", "12") == loras / names[2]


def test_a_worker_that_dies_is_noticed_though_no_file_changes(runs, make, monkeypatch):
    folder, alive = make("some-run", "running"), True
    monkeypatch.setattr(runs.liveness, "is_alive", lambda _: alive)
    assert runs.overview.summary(folder)["state"] == "running"
    alive = False
    assert runs.overview.summary(folder)["state"] == "dead"


@pytest.mark.parametrize("damaged", [False, True])
def test_a_run_whose_process_ends_late_can_be_deleted_then(runs, make, monkeypatch, damaged):
    folder, alive = make("some-run", "finished"), True
    if damaged:
        folder.job.write_text("{")
    monkeypatch.setattr(runs.liveness, "is_alive", lambda _: alive)
    assert "delete" not in runs.overview.summary(folder)["actions"]
    runs.overview.keep()
    alive = False
    assert "delete" in runs.overview.summary(folder)["actions"]
    runs.overview._known.clear()
    runs.overview._taken_from.clear()
    assert "delete" in runs.overview.summaries()[0]["actions"], "and the next server says so, too"


def test_pages_and_filters(runs, make):
    for number, state in enumerate(("finished", "failed", "finished", "cancelled")):
        folder = make(f"run-{number}", state)
        os.utime(folder.job, (OLD + number, OLD + number))
    runs.about.write(runs.paths.folder_of("run-1"), {"note": "The BEST one"})

    def page(limit=None, offset=0, query="", states=()):
        told = runs.overview.page(limit, offset, query, set(states))
        assert told["counts"] == {"finished": 2, "failed": 1, "cancelled": 1}
        return [each["run_id"] for each in told["runs"]], told["total"]

    assert page() == (["run-3", "run-2", "run-1", "run-0"], 4)
    assert page(2) == (["run-3", "run-2"], 4) and page(2, 3) == (["run-0"], 4) and page(0) == ([], 4)
    assert page(query="best ONE") == (["run-1"], 1) and page(query="Run-2") == (["run-2"], 1)
    assert page(states=["finished"]) == (["run-2", "run-0"], 2) and page(1, 1, "run", ["failed", "dead"]) == ([], 1)


ENDED = {"restart", "delete"}


@pytest.mark.parametrize(
    ("state", "options", "alive", "expected"),
    [
        ("queued", {}, True, {"cancel", "restart"}),
        ("waiting", {}, True, {"cancel", "restart"}),
        ("running", {}, True, {"cancel", "save", "restart"}),
        ("running", {}, False, {"resume", "continue", *ENDED}),
        ("failed", {}, False, {"resume", "continue", *ENDED}),
        ("cancelled", {"checkpoint": 0}, False, {"resume", *ENDED}),
        ("finished", {}, False, {"continue", *ENDED}),
        ("finished", {"schedule": "linear"}, False, ENDED),
        ("finished", {"checkpoint": 0}, False, ENDED),
    ],
)
def test_actions_are_those_that_would_work(runs, make, monkeypatch, state, options, alive, expected):
    monkeypatch.setattr(runs.liveness, "is_alive", lambda _: alive)
    folder = make("some-run", state, **options)
    assert set(runs.overview.summary(folder)["actions"]) == expected
    if options.get("checkpoint", 2) and not alive:
        (folder.checkpoints / "000002" / "lora.safetensors").touch()
        os.utime(folder.checkpoints)
        assert set(runs.overview.summary(folder)["actions"]) == expected | {"save"}
    # A stranger's job is never executed.
    folder.job.write_text(folder.job.read_text().replace('"Some-Run"', '"Other"'))
    assert not {"resume", "continue", "restart"} & set(runs.overview.summary(folder)["actions"])


def test_a_run_that_needs_a_missing_node_offers_no_start(runs, make, monkeypatch):
    import nodes

    monkeypatch.delitem(nodes.NODE_CLASS_MAPPINGS, "Test_Loader")
    assert runs.overview.summary(make("some-run", "failed"))["actions"] == ["delete"]


def test_node_ids(runs, make):
    told = runs.overview.summary(make("ended", "finished"))
    assert (told["node_id"], told["train_node_id"], told["workflow_id"]) == ("7", "7", "")
    told = runs.overview.summary(make("broken", "failed", node_id="3"))
    assert (told["node_id"], told["train_node_id"]) == ("3", "7"), "the node that failed, as released"


def test_thumbnail_is_the_newest_image_of_the_run_itself(runs, make, tmp_path):
    folder = make("some-run", "finished", sample="samples/iteration_000012.png")
    assert runs.overview.summary(folder)["thumbnail"] is None
    (folder.samples / "iteration_000012.png").touch()
    change(folder, message="!")
    grid = {"filename": "iteration_000012.png", "subfolder": "mixgrpo/some-run/samples", "type": "output"}
    told = runs.overview.summary(folder)
    assert told["thumbnail"] == grid and told["images"] == [grid]
    (folder.samples / "000012").mkdir()
    (folder.samples / "000012" / "00.webp").touch()
    change(folder, message="!!")
    assert runs.overview.summary(folder)["thumbnail"]["subfolder"] == "mixgrpo/some-run/samples/000012"
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x.png").touch()
    (folder.path / "samples" / "link").symlink_to(outside)
    for sample in ("../../../outside/x.png", str(outside / "x.png"), "samples/../../x.png", "samples/link/x.png"):
        change(folder, sample=sample)
        told = runs.overview.summary(folder)
        assert told["thumbnail"] is None and told["images"] == []


@pytest.mark.parametrize(
    "fields", [{"sparkline": []}, {"sparkline": {"every": 1, "values": ["<b>"]}}, {"held_out": {"change": "x"}}]
)
def test_damaged_new_fields_make_the_status_anew(runs, make, fields):
    summary = runs.overview.summary(make("some-run", "finished", **fields))
    assert "status.json was damaged" in summary["message"] and summary["state"] == "dead", "it has no events"


def test_damaged_about_costs_the_name_only(runs, make):
    folder = make("some-run", "finished")
    for text in ("{", "[]", '{"name": 5, "note": "n"}'):
        (folder.path / "about.json").write_text(text)
        told = runs.overview.summary(folder)
        assert (told["name"], told["state"]) == ("Some-Run", "finished")
    assert told["note"] == "n"


def test_nearest_preset(runs, room):
    preset = room("mixgrpo_engine.presets").preset
    settings = preset("Flow-GRPO")
    settings.run.iterations = 7
    assert runs.preset_differences.told(settings.as_dict()) == {"preset": "Flow-GRPO", "changed": []}
    settings.loss.kl_weight = 0.5
    assert runs.preset_differences.told(settings.as_dict()) == {
        "preset": "Flow-GRPO",
        "changed": [{"setting": "kl_weight", "value": 0.5, "preset": 0.01}],
    }
    for damaged in (None, [], {"run": {"nonsense": 1}}, {"run": 5}):
        assert runs.preset_differences.told(damaged) == {"preset": None, "changed": []}
