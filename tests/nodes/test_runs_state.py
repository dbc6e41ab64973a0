"""What a run folder says about its run, without a server: names, states, the job, the curve."""

import json
import subprocess
import sys
import time

import pytest


@pytest.fixture
def runs(pack, tmp_path, monkeypatch):
    """The package nodes.runs with its modules, over an empty output folder."""
    import importlib

    import folder_paths

    for name in (
        "cancel", "curve", "follow", "job", "launch", "locks", "lora", "paths", "process", "routes", "signature",
        "state", "submit", "wait",
    ):  # fmt: skip
        importlib.import_module(f"{pack.__name__}.nodes.runs.{name}")
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    monkeypatch.setattr(folder_paths, "user_directory", str(tmp_path / "user"))
    return pack.nodes.runs


@pytest.fixture
def folder(runs):
    made = runs.paths.folder_of("some-run-12345678")
    made.create()
    job = {"name": "Some run", "fingerprint": "f", "run_id": made.name, "config": {"run": {"iterations": 3}}}
    made.job.write_text(json.dumps(runs.signature.signed({**job, "graph": {}}, runs.signature.install_key())))
    return made


def sleeper(*arguments):
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", *arguments])


@pytest.fixture
def worker(folder):
    """A process that stands for the run's worker."""
    process = sleeper("/pack/nodes/worker/entry.py", str(folder.path))
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize(
    "name, expected",
    [
        ("My Run", "my-run"),
        ("\u00fcber \u00e9t\u00e9", "uber-ete"),
        ("\u732b", "run"),
        ("../../etc/passwd", "etc-passwd"),
        ("a" * 39 + " b", "a" * 39),
        ("-", "run"),
    ],
)
def test_slug_is_a_safe_part_of_a_file_name(runs, name, expected):
    assert runs.paths.slug(name) == expected
    assert runs.paths.ID.fullmatch(f"{expected}-01234567-2")


@pytest.mark.parametrize("run_id", ["..", "../x", "a/b", "a\\b", "", "A", "a.b", "-a", "a\n", "a" * 81, None, 5])
def test_what_is_no_id_is_never_a_path(runs, folder, run_id):
    assert runs.state.find(run_id) is None


def test_live_worker_is_running_and_a_dead_one_dead(runs, folder, worker):
    folder.set_status(state="running", iteration=1)
    (folder.path / "launch.json").write_text(json.dumps(runs.process.identity(worker.pid)))
    assert runs.state.state(folder) == "running"
    worker.kill()
    # Not waited for yet, the process is a zombie: that is no worker either.
    deadline = time.monotonic() + 10
    while runs.state.state(folder) == "running" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert runs.state.state(folder) == "dead"


def test_reused_pid_is_not_the_worker(runs, folder, worker):
    folder.set_status(state="running")
    identity = runs.process.identity(worker.pid)
    (folder.path / "launch.json").write_text(json.dumps({**identity, "pid_created": identity["pid_created"] - 60}))
    assert runs.state.state(folder) == "dead"
    runs.process.terminate({**identity, "pid_created": identity["pid_created"] - 60}, folder.path)
    time.sleep(0.2)
    assert worker.poll() is None


@pytest.mark.parametrize("arguments", [[], ["worker/entry.py", "/another/run"], ["{folder}"], ["entry.py", "{folder}"]])
def test_foreign_process_named_in_a_run_folder_gets_no_signal(runs, folder, arguments):
    """Whoever can write into the folder could name any process there, with its true creation time."""
    stranger = sleeper(*(argument.format(folder=folder.path) for argument in arguments))
    try:
        who = runs.process.identity(stranger.pid)
        folder.set_status(state="running", **who)
        (folder.path / "launch.json").write_text(json.dumps(who))
        assert runs.state.state(folder) == "dead"
        runs.cancel.cancel(folder)
        runs.process.terminate(who, folder.path)
        with pytest.raises(subprocess.TimeoutExpired):
            stranger.wait(0.3)
    finally:
        stranger.kill()
        stranger.wait()


def test_worker_named_in_its_folder_gets_the_signal(runs, folder, worker):
    folder.set_status(state="running", **runs.process.identity(worker.pid))
    (folder.path / "launch.json").write_text(json.dumps(runs.process.identity(worker.pid)))
    assert runs.cancel.cancel(folder) is True
    assert worker.wait(10) == -15


@pytest.mark.parametrize("who", [{"pid": "1"}, {"pid": [1]}, {"pid": -1}, {"pid": 2**70, "pid_created": 1}, {"pid": 1}])
def test_pid_that_is_none_is_no_process(runs, folder, who):
    assert runs.process.is_alive({"pid_created": 0.0, **who}, folder.path) is False
    runs.process.terminate({"pid_created": None, **who}, folder.path)


def test_held_lock_is_a_sign_of_life(runs, folder):
    folder.set_status(state="running")
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(folder.lock)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline().strip() == "held"
        assert runs.state.state(folder) == "running"
    finally:
        holder.kill()
        holder.communicate()
    assert runs.state.state(folder) == "dead"


_HOLD = (
    "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); input()"
)


def test_queued_run_is_given_a_moment_to_start(runs, folder):
    folder.set_status(state="queued")
    assert runs.state.state(folder) == "queued"
    status = folder.status()
    folder.status_file.write_text(json.dumps({**status, "updated": time.time() - 60}))
    assert runs.state.state(folder) == "dead"


def test_worker_that_shows_itself_between_two_looks_is_not_dead(runs, folder, monkeypatch):
    folder.set_status(state="running")
    looks = iter([False, True])
    monkeypatch.setattr(runs.state, "is_alive", lambda _: next(looks))
    assert runs.state.state(folder) == "running"


def test_worker_that_ended_before_it_could_listen_was_cancelled(runs, folder):
    folder.set_status(state="running")
    folder.cancel_file.touch()
    assert runs.state.state(folder) == "cancelled"
    assert runs.cancel.cancel(folder) is False


def test_two_holders_of_a_lock_are_never_there_at_once(runs, tmp_path):
    first, second = runs.locks.FileLock(tmp_path / "l"), runs.locks.FileLock(tmp_path / "l")
    assert first.acquire() and not second.acquire()
    assert runs.locks.is_taken(tmp_path / "l")
    with pytest.raises(TimeoutError, match="another process holds it"):
        second.hold(0.2)
    first.release()
    assert second.acquire()
    second.release()
    assert not runs.locks.is_taken(tmp_path / "l")
    assert not runs.locks.is_taken(tmp_path / "never made") and not (tmp_path / "never made").exists()


def test_probe_does_not_see_another_probe_but_an_error(runs, tmp_path, monkeypatch):
    import errno
    import fcntl

    with open(tmp_path / "l", "w") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        assert not runs.locks.is_taken(tmp_path / "l")
        assert not runs.locks.FileLock(tmp_path / "l").acquire()

    def broken(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", broken)
    for attempt in (lambda: runs.locks.is_taken(tmp_path / "l"), runs.locks.FileLock(tmp_path / "l").acquire):
        with pytest.raises(OSError, match=f"can't be locked: No locks available.*{tmp_path}/l"):
            attempt()


def test_summary_has_no_nan_and_never_fails_on_a_young_run(runs, folder):
    folder.set_status(state="queued", reward={"a": float("nan")})
    summary = json.loads(json.dumps(runs.state.summary(folder), allow_nan=False))
    assert summary["reward"] == {"a": None} and summary["images"] == [] and summary["files"] == []
    assert [f.name for f in runs.state.runs()] == ["some-run-12345678"]


def test_run_whose_lock_cannot_be_looked_at_is_unreadable_not_an_error(runs, folder, monkeypatch):
    folder.set_status(state="running")
    folder.lock.touch()

    def broken(*_, **__):
        raise OSError(37, "can't be locked", str(folder.lock))

    monkeypatch.setattr(runs.locks, "_try_lock", broken)
    assert runs.state.state(folder) == "unreadable"
    assert "worker.lock" in runs.state.summary(folder)["message"]


def test_curve_takes_the_later_value_of_a_repeated_iteration(runs, pack, folder):
    lines = [
        {"type": "iteration", "iteration": 1, "reward": {"a": 0.1, "b": None}},
        {"type": "iteration", "iteration": 2, "reward": {"a": 0.2}},
        {"type": "stage", "name": "resume"},
        {"type": "iteration", "iteration": 2, "reward": {"a": 0.3}},
        {"type": "evaluation", "iteration": 0, "reward": {"a": 0.5}, "strict": {}},
    ]
    assert runs.curve.draw(folder) is None
    folder.events.write_text("".join(json.dumps(line) + "\n" for line in lines))
    history = pack.mixgrpo_engine.events.read(folder.events)[0]
    assert runs.curve.series(history, "iteration") == {"a": [(1, 0.1), (2, 0.3)]}
    assert runs.curve.series(history, "evaluation") == {"a": [(0, 0.5)]}
    assert runs.curve.draw(folder).read_bytes().startswith(b"\x89PNG")


def test_submitting_decides_by_fingerprint_and_state(runs, monkeypatch):
    """Which run a job becomes; the process itself is not started here."""
    started = []
    monkeypatch.setattr(runs.submit, "launch", lambda folder: started.append(folder.name))

    def submit(fingerprint, **options):
        job = {"name": "n", "fingerprint": fingerprint, "config": {}}
        result = runs.submit.submit(job, **options)
        return result.folder.name, result.action

    def end(run_id, state):
        folder = runs.paths.folder_of(run_id)
        folder.set_status(state=state)
        folder.lora.write_bytes(b"weights")

    assert submit("a" * 64) == ("n-aaaaaaaa", "started")
    end("n-aaaaaaaa", "cancelled")
    assert submit("a" * 64) == ("n-aaaaaaaa", "resumed")
    end("n-aaaaaaaa", "finished")
    assert submit("a" * 64) == ("n-aaaaaaaa", "finished")
    assert submit("a" * 64, restart=True) == ("n-aaaaaaaa-2", "started")
    end("n-aaaaaaaa-2", "failed")
    assert submit("a" * 64) == ("n-aaaaaaaa-2", "resumed")
    # The same first eight digits, another run: the old ones are not touched.
    assert submit("a" * 8 + "b" * 56) == ("n-aaaaaaaa-3", "started")
    end("n-aaaaaaaa-3", "finished")
    assert submit("a" * 64, restart=True) == ("n-aaaaaaaa-4", "started")
    end("n-aaaaaaaa-4", "finished")
    assert submit("a" * 64) == ("n-aaaaaaaa-4", "finished")
    assert submit("a" * 8 + "b" * 56) == ("n-aaaaaaaa-3", "finished")
    assert started == ["n-aaaaaaaa"] * 2 + ["n-aaaaaaaa-2"] * 2 + ["n-aaaaaaaa-3", "n-aaaaaaaa-4"]
    with pytest.raises(ValueError, match="is finished: there is nothing to resume"):
        runs.submit.resume(runs.paths.folder_of("n-aaaaaaaa"))


def test_key_is_made_once_outside_of_output_and_private(runs, tmp_path):
    key = runs.signature.install_key()
    assert len(key) == 32 and runs.signature.install_key() == key
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.relative_to(tmp_path).as_posix() for path in files] == ["user/mixgrpo.key"]
    assert files[0].stat().st_mode & 0o777 == 0o600
    files[0].write_bytes(b"")
    with pytest.raises(ValueError, match=r"mixgrpo.key is damaged"):
        runs.signature.install_key()


@pytest.mark.parametrize(
    "change",
    [
        lambda job: job["graph"].update(x={"class_type": "Evil", "inputs": {}}),
        lambda job: job.update(comfyui={"root": "/evil"}),
        lambda job: job.update(run_id="another-run"),
        lambda job: job.pop("signature"),
        lambda job: job.update(signature=None),
        lambda job: job.update(signature="\u00fc"),
        lambda job: job.update(signature="0" * 64),
        lambda job: job.update(loss=float("nan")),
    ],
)
def test_changed_job_is_neither_resumed_nor_started(runs, folder, monkeypatch, change):
    started = []
    monkeypatch.setattr(runs.launch.subprocess, "Popen", lambda *_, **__: started.append(1))
    folder.set_status(state="failed")
    job = json.loads(folder.job.read_text())
    runs.signature.require(job, folder.name, runs.signature.install_key())
    change(job)
    folder.job.write_text(json.dumps(job))
    for attempt in (lambda: runs.submit.resume(folder), lambda: runs.launch.launch(folder)):
        with pytest.raises(ValueError, match="was not written by this ComfyUI"):
            attempt()
    assert started == [] and folder.status()["state"] == "failed"


def test_worker_refuses_a_job_that_was_changed_after_the_server_looked(runs, folder):
    """The worker's script as the server starts it, up to that check."""
    job = json.loads(folder.job.read_text())
    folder.job.write_text(json.dumps({**job, "graph": {"1": {}}}))
    orders = {"comfyui": {}, "packs": [], "key": runs.signature.install_key().hex()}
    command = [sys.executable, str(runs.launch.ENTRY), str(folder.path)]
    done = subprocess.run(command, input=json.dumps(orders), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "was not written by this ComfyUI" in folder.status()["message"] and runs.state.state(folder) == "failed"
    assert subprocess.run(command, input="", capture_output=True, timeout=60).returncode == 2


def test_run_folder_does_not_say_how_comfyui_was_started(runs, folder):
    job = json.loads(folder.job.read_text())
    orders = runs.launch.start_orders(folder, job)
    assert orders["comfyui"].keys() == {"root", "argv", "sys_path"} and orders["packs"] == []
    text = "".join(path.read_text() for path in folder.path.rglob("*") if path.is_file())
    assert orders["key"] not in text and orders["comfyui"]["root"] not in text


def test_waiting_for_a_stopping_run_does_not_block_other_runs(runs, folder, monkeypatch):
    """The submit lock is free while a cancelled worker saves its checkpoint."""
    folder.set_status(state="cancelled")
    free, looks = [], iter([True, True, False, False])
    monkeypatch.setattr(runs.state, "is_cancelling", lambda _: next(looks))
    monkeypatch.setattr(runs.submit, "launch", lambda _: None)
    sleep = time.sleep

    def look_and_sleep(seconds):
        free.append(not runs.locks.is_taken(runs.paths.runs_directory() / ".submit.lock"))
        sleep(0.01)

    monkeypatch.setattr(runs.submit.time, "sleep", look_and_sleep)
    assert runs.submit.resume(folder).action == "resumed"
    assert free == [True, True]


def test_resume_takes_the_new_memory_and_evaluation_settings(runs, monkeypatch):
    monkeypatch.setattr(runs.submit, "launch", lambda _: None)
    job = {"name": "n", "fingerprint": "a" * 64, "config": {"optimizer": {"batch_size": 0}}}
    folder = runs.submit.submit(job).folder
    folder.set_status(state="failed")
    assert runs.submit.submit({**job, "config": {"optimizer": {"batch_size": 1}}}).action == "resumed"
    stored = runs.state.job(folder)
    assert stored["config"]["optimizer"]["batch_size"] == 1
    runs.signature.require(stored, folder.name, runs.signature.install_key())


def test_settings_tell_runs_apart_only_where_they_change_the_training(runs, pack):
    config = pack.mixgrpo_engine.config

    def telling(**changes):
        made = config.TrainConfig()
        for path, value in changes.items():
            group, name = path.split("__")
            setattr(getattr(made, group), name, value)
        return runs.job.telling(made.as_dict())

    assert telling() == {}
    assert telling(rollout__batch_size=2, optimizer__batch_size=1, run__gradient_checkpointing=True) == {}
    assert telling(run__evaluate_every=1, run__evaluate_images=9, run__checkpoint_every=1) == {}
    assert telling(run__seed=1, rollout__eta=0.5) == {"run": {"seed": 1}, "rollout": {"eta": 0.5}}


@pytest.mark.parametrize("checkpoint, words", [(4, "its checkpoint holds 4 iterations"), (None, "before its first")])
def test_cancelled_run_speaks_of_its_checkpoint(runs, folder, checkpoint, words):
    folder.set_status(state="cancelled", iteration=99, checkpoint=checkpoint)
    sentence = runs.wait.ending(folder, "cancelled")
    assert words in sentence and "99" not in sentence


def test_lora_that_was_deleted_is_published_again_or_named(runs, folder):
    folder.set_status(state="finished")
    with pytest.raises(ValueError, match="is gone, also from its folder"):
        runs.lora.require_finished(folder)
    folder.lora.write_bytes(b"weights")
    runs.lora.require_finished(folder)
    assert runs.paths.lora_file(folder.name).read_bytes() == b"weights"


@pytest.fixture
def follower(runs):
    """A follower and the messages that it has sent."""
    sent = []
    return runs.follow.Follower(lambda _event, message: sent.append(message)), sent


def test_follower_goes_on_past_damaged_runs_and_forgets_vanished_ones(runs, folder, follower, monkeypatch):
    look, sent = follower
    folder.set_status(state="cancelled")
    folder.events.write_text('{"type": "stage"}\n')
    damaged = runs.paths.folder_of("damaged-run")
    damaged.create()
    damaged.job.write_text("{")
    impossible = runs.paths.folder_of("impossible-run")
    impossible.create()
    impossible.job.write_text("{}")
    impossible.events.mkdir()
    look.skip_the_past()
    look.look()
    assert [message["run_id"] for message in sent] in ([], ["impossible-run"])
    sent.clear()
    with open(folder.events, "a") as log:
        log.write('{"type": "done"}\n')
    look.look()
    assert [(m["run_id"], m["events"]) for m in sent] == [(folder.name, [{"type": "done"}])]
    # Unchanged logs aren't opened again.
    monkeypatch.setattr(runs.follow.events, "read", None)
    look.look()
    monkeypatch.undo()


def test_follower_starts_over_with_a_new_log_of_an_old_name(runs, folder, follower):
    look, sent = follower
    folder.set_status(state="cancelled")
    folder.events.write_text('{"type": "stage"}\n' * 5)
    look.look()
    assert len(sent[-1]["events"]) == 5
    folder.events.write_text('{"type": "done"}\n')
    look.look()
    assert sent[-1]["events"] == [{"type": "done"}]
    folder.job.unlink()
    look.look()
    assert not look._offsets and not look._states
