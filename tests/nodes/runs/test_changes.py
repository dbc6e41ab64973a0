"""What can be done to a run from outside: more iterations, again, a LoRA of now, another name, away with it."""

import json

import pytest
from filelock import FileLock


@pytest.fixture
def ended(runs, room, monkeypatch):
    """A run that has finished 2 iterations and has a checkpoint; `ended.started` names the runs that got a worker."""
    nodes = {"1": {"class_type": "L", "inputs": {}}, "2": {"class_type": "Train", "inputs": {"model": ["1", 0]}}}
    prompt = type("Prompt", (), {"has_node": nodes.__contains__, "get_node": nodes.__getitem__})
    prompts = room("mixgrpo_engine.prompts").PromptSet(("a",), ())
    algorithm = room("mixgrpo_engine.config").TrainConfig()
    made = runs.job.make(
        prompt, "2", ["model"], prompts=prompts, algorithm=algorithm, run_name="n", iterations=2, evaluate_every=0
    )
    started = []
    monkeypatch.setattr(runs.submit, "enter", lambda folder: started.append(folder.name))
    folder = runs.submit.submit(made).folder
    folder.set_status(state="finished", iteration=2)
    folder.lora.write_bytes(b"last")
    (folder.checkpoints / "000002").mkdir()
    started.clear()
    folder.started = started
    return folder


def rewrite(runs, folder, change):
    """Changes the job and signs it again."""
    job = runs.stored.job(folder)
    change(job)
    folder.job.write_text(json.dumps(runs.signature.signed(job, runs.signature.install_key())))


def whole(runs, folder):
    """The job with its prompts, as it was submitted."""
    job = runs.stored.job(folder)
    return {**job, "prompts": runs.stored_prompts.read(folder, job)}


def test_a_run_goes_on_to_more_iterations(runs, ended):
    before = whole(runs, ended)
    submission = runs.submit.go_on(ended, 5)
    assert (submission.folder.name, submission.action) == (ended.name, "resumed") and ended.started == [ended.name]
    after = whole(runs, ended)
    assert after["config"]["run"]["iterations"] == 5 and after["prompts"] == before["prompts"]
    runs.signature.require(runs.stored.job(ended), ended.name, runs.signature.install_key())
    # The graph with 5 iterations finds it.
    assert after["fingerprint"] == runs.job.fingerprint(before, 5) != before["fingerprint"]


def test_a_run_of_an_older_version_goes_on(runs, ended):
    newer = whole(runs, ended)
    rewrite(runs, ended, lambda job: job["config"]["loss"].pop("spread"))
    runs.submit.go_on(ended, 5)
    assert runs.stored.job(ended)["fingerprint"] == runs.job.fingerprint(newer, 5)


def test_a_run_does_not_go_on_where_it_can_not(runs, ended, monkeypatch):
    with pytest.raises(ValueError, match="has 2 iterations already: give a higher number"):
        runs.submit.go_on(ended, 2)
    rewrite(runs, ended, lambda job: job["config"]["optimizer"].update(schedule="linear"))
    with pytest.raises(ValueError, match="The learning rate of run n-.* falls to 0 at its last iteration"):
        runs.submit.go_on(ended, 5)
    rewrite(runs, ended, lambda job: job["config"]["optimizer"].update(schedule="constant"))
    (ended.checkpoints / "000002").rmdir()
    with pytest.raises(ValueError, match="has no checkpoint to go on from: restart it"):
        runs.submit.go_on(ended, 5)
    monkeypatch.setattr(runs.liveness, "is_alive", lambda _: True)
    ended.set_status(state="running")
    with pytest.raises(ValueError, match="is at work: it can go on to more iterations when it has ended"):
        runs.submit.go_on(ended, 5)
    assert not ended.started


def test_the_node_that_queued_a_run_shows_its_restart(runs, ended):
    plain = runs.overview.summary(runs.submit.restart(ended).folder)
    assert (plain["workflow_id"], plain["queued"], plain["train_node_id"]) == ("", None, "2"), "a script's"
    sweep = {"id": "s", "position": 2, "of": 3, "values": {"seed": 5}}
    runs.workflow.keep(ended, {"workflow": {"id": "abc"}}, {}, "9:2", True, sweep)
    before = runs.overview.summary(ended)
    told = runs.overview.summary(runs.submit.restart(ended).folder)
    assert (told["workflow_id"], told["train_node_id"]) == ("abc", "9:2") and told["queued"] > before["queued"]
    assert before["sweep"] == sweep and told["sweep"] is None, "a sweep's place is taken"
    assert not before["detached"] and told["detached"], "no prompt waits for it"


def test_a_restart_is_a_run_of_its_own(runs, ended):
    (ended.path / "workflow.json").write_text("{}")
    submission = runs.submit.restart(ended)
    assert (submission.folder.path / "workflow.json").read_text() == "{}"
    assert submission.folder.name == f"{ended.name}-2" and ended.started == [f"{ended.name}-2"]
    one, other = runs.stored.job(ended), runs.stored.job(submission.folder)
    own = ("run_id", "created", "signature")
    assert all(one[name] == other[name] for name in one.keys() - set(own)) and one["created"] < other["created"]
    assert ended.lora.read_bytes() == b"last"


@pytest.mark.parametrize("action", ["go_on", "restart"])
def test_a_strangers_job_is_not_signed_by_going_on_or_restarting(runs, ended, action):
    job = runs.stored.job(ended)
    job["graph"]["1"]["inputs"]["file"] = "theirs"
    ended.job.write_text(json.dumps(job))
    with pytest.raises(ValueError, match="was not written by this ComfyUI"):
        getattr(runs.submit, action)(ended, *([5] if action == "go_on" else []))
    assert not ended.started and [each["run_id"] for each in runs.overview.summaries()] == [ended.name]


def test_a_lora_of_now(runs, ended, monkeypatch):
    with pytest.raises(ValueError, match="its checkpoint is of an older version and holds none: resume it first"):
        runs.save.save(ended)
    (ended.checkpoints / "000002" / "lora.safetensors").write_bytes(b"two")
    (ended.checkpoints / "000001").mkdir()
    runs.save.save(ended)
    published = runs.paths.lora_file(ended.name, "2")
    assert published.name == f"{ended.name}-000002.safetensors" and published.read_bytes() == b"two"
    assert [file["filename"] for file in runs.overview.summary(ended)["files"]] == [published.name]
    # The worker's own, where it has made one.
    (ended.path / published.name).write_bytes(b"asked for")
    runs.published_lora.publish(ended, "2")
    assert published.read_bytes() == b"asked for"
    monkeypatch.setattr(runs.liveness, "is_alive", lambda _: True)
    ended.set_status(state="queued")
    with pytest.raises(ValueError, match="isn't at work yet: save its LoRA when it is"):
        runs.save.save(ended)
    assert not (ended.path / "save").exists()
    ended.set_status(state="running")
    runs.save.save(ended)
    assert (ended.path / "save").exists()
    ended.cancel_file.touch()
    with pytest.raises(ValueError, match="is stopping: save its LoRA when it has ended"):
        runs.save.save(ended)


def test_names_and_notes(runs, ended):
    for wrong in ({}, [], {"name": 5}, {"name": "a" * 201}, {"note": "a" * 10_001}, {"name": "a", "state": "x"}, None):
        with pytest.raises(ValueError, match="must be"):
            runs.about.check(wrong)
    assert runs.about.check({"name": "a\ud800\0b"}) == {"name": "a\ufffd\ufffdb"}  # as reports and browsers can show
    runs.about.write(ended, runs.about.check({"name": " <b> ", "note": "why"}))
    runs.about.write(ended, runs.about.check({"note": "because"}))
    told = runs.overview.summary(ended)
    assert (told["name"], told["note"]) == ("<b>", "because")
    runs.about.write(ended, {"name": ""})
    assert runs.overview.summary(ended)["name"] == "n"


def test_a_removed_run_leaves_nothing_but_what_links_lead_to(runs, ended, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    (ended.samples / "link").symlink_to(outside, target_is_directory=True)
    (ended.path / "file").symlink_to(outside / "kept")
    other = runs.paths.folder_of(f"{ended.name}-2")
    other.create()
    other.job.write_text("{}")
    loras = runs.paths.lora_folder()
    loras.mkdir(parents=True)
    for name in (f"{ended.name}.safetensors", f"{ended.name}-000002.safetensors", f"{other.name}.safetensors"):
        (loras / name).touch()
    runs.news.take()
    runs.remove.remove(ended, loras=False)
    assert not ended.path.exists() and (outside / "kept").exists() and len(list(loras.iterdir())) == 3
    assert [each["run_id"] for each in runs.overview.summaries()] == [other.name] and runs.news.take() == {ended.name}
    ended.create()
    ended.job.write_text("{}")
    runs.remove.remove(ended, loras=True)
    assert [path.name for path in loras.iterdir()] == [f"{other.name}.safetensors"]
    assert [path.name for path in runs.paths.runs_directory().iterdir() if path.is_dir()] == [other.name]


def test_a_run_whose_folder_is_a_link_loses_the_link_only(runs, folder, tmp_path):
    outside = tmp_path / "elsewhere"
    folder.path.rename(outside)
    folder.path.symlink_to(outside, target_is_directory=True)
    runs.remove.remove(folder, loras=True)
    assert not folder.path.is_symlink() and (outside / "job.json").exists()
    assert [path.name for path in runs.paths.runs_directory().iterdir() if path.name != ".submit.lock"] == []


def test_a_run_that_somebody_has_is_not_removed(runs, ended, monkeypatch):
    with FileLock(ended.lock), pytest.raises(ValueError, match="is at work: cancel it, and delete it when it has end"):
        runs.remove.remove(ended, loras=True)
    ended.set_status(state="running")
    monkeypatch.setattr(runs.liveness, "is_alive", lambda _: True)
    with pytest.raises(ValueError, match="is at work"):
        runs.remove.remove(ended, loras=True)
    assert ended.lora.exists()


def test_a_damaged_run_can_be_removed(runs, ended):
    ended.job.write_text("{")
    ended.status_file.write_text("[]")
    assert runs.overview.summary(ended)["actions"] == ["delete"]
    runs.remove.remove(ended, loras=False)
    assert not ended.path.exists()
