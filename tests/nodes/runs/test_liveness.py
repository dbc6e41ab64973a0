"""What a run folder says of its run, without a server: names, states, the summary."""

import json
import os
import shutil
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from filelock import FileLock

from mixgrpo_engine.records import events

not_on_windows = pytest.mark.skipif(os.name == "nt", reason="Windows doesn't tell")

HOLD = "import sys, filelock; l = filelock.FileLock(sys.argv[1]); l.acquire(); print('held', flush=True); input()"


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
    assert runs.overview.find(run_id) is None


def test_held_lock_is_a_sign_of_life(runs, folder):
    folder.set_status(state="running")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder.lock)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline().strip() == "held"
        assert runs.liveness.state_of(folder) == "running"
    finally:
        holder.kill()
        holder.communicate()
    assert runs.liveness.state_of(folder) == "dead"


def test_queued_run_is_given_a_moment_to_start(runs, folder):
    folder.set_status(state="queued")
    assert runs.liveness.state_of(folder) == "queued"
    status = folder.status()
    folder.status_file.write_text(json.dumps({**status, "updated": time.time() - 60}))
    assert runs.liveness.state_of(folder) == "dead"


def test_worker_that_shows_itself_between_two_looks_is_not_dead(runs, folder, monkeypatch):
    folder.set_status(state="running")
    first = iter([False])
    monkeypatch.setattr(runs.liveness, "is_alive", lambda _: next(first, True))
    assert runs.liveness.state_of(folder) == "running"


def test_worker_that_ended_before_it_could_listen_was_cancelled(runs, folder):
    folder.set_status(state="running")
    folder.cancel_file.touch()
    assert runs.liveness.state_of(folder) == "cancelled"
    assert runs.cancel.cancel(folder) is False


def test_summary_has_no_nan_and_never_fails_on_a_young_run(runs, folder):
    folder.set_status(state="queued", reward={"a": float("nan")})
    summary = json.loads(json.dumps(runs.overview.summary(folder), allow_nan=False))
    assert summary["reward"] == {"a": None} and summary["images"] == [] and summary["files"] == []
    assert [each["run_id"] for each in runs.overview.summaries()] == ["some-run-12345678"]


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00", "[" * 100_000])
def test_a_damaged_launch_file_is_told_and_the_run_goes_on(runs, folder, monkeypatch, text):
    path = folder.path / "launch.json"
    path.write_text(text)
    folder.set_status(state="running")
    with FileLock(folder.lock):  # its worker is there
        assert runs.liveness.state_of(folder) == "running"
        assert str(path) in runs.overview.summary(folder)["message"]
    assert runs.liveness.state_of(folder) == "dead"
    started = []
    monkeypatch.setattr(runs.launch, "start_orders", lambda *_: {})
    monkeypatch.setattr(runs.launch.subprocess, "Popen", lambda command, **_: started.append(command) or Process())
    runs.submit.resume(folder)
    told = [event["message"] for event in events.read(folder.events)[0]]
    assert started and told == [f"{path} is damaged and left out: it is written again when the run goes on."]
    assert runs.stored.launch_damage(folder) == ""


def test_a_worker_waits_for_its_threads_as_the_owner_says(runs, folder, monkeypatch):
    """By default so that they leave a busy core to others."""
    given = []
    monkeypatch.setattr(runs.launch, "start_orders", lambda *_: {})
    monkeypatch.setattr(runs.launch.subprocess, "Popen", lambda *_, env, **__: given.append(env) or Process())
    for owners in ({}, {"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "active"}):
        with monkeypatch.context() as patch:
            for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
                patch.delenv(name, raising=False)
            for name, value in owners.items():
                patch.setenv(name, value)
            runs.launch.launch(folder)
    assert [each.get("GOMP_SPINCOUNT") for each in given] == [runs.launch.SPIN_COUNT, "7", None]


class Process:
    """A worker that has ended at once."""

    pid, stdin = 2**22 + 1, None

    def poll(self):
        return 0


@pytest.mark.parametrize("is_full", [True, pytest.param(False, marks=not_on_windows)])
def test_a_worker_that_could_not_write_its_last_word_is_told_by_the_disk(runs, folder, monkeypatch, is_full):
    folder.set_status(state="running", stage="boot", message="Starting ComfyUI.")
    folder.log.write_text("\x00\x1b[31mlast \ufffd line\x1b[0m\n")
    told = runs.overview.summary(folder)
    assert told["state"] == "dead" and told["message"] == ""
    assert "(killed, or out of memory)" in runs.wait.ending(folder, "dead")
    if is_full:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=8192))
    else:
        roomy = dict.fromkeys(("f_bavail", "f_bfree", "f_blocks", "f_frsize"), 2**16)
        monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=os.ST_RDONLY, **roomy))
    words = f"The disk is {'full' if is_full else 'read-only'} ({folder.path}): "
    assert runs.overview.summary(folder)["message"].startswith(words)
    ending = runs.wait.ending(folder, "dead")
    assert f"is gone without a word: {words}" in ending and ending.endswith("\ufffdlast \ufffd line")


def test_run_whose_lock_cannot_be_looked_at_is_unreadable_not_an_error(runs, folder, monkeypatch):
    folder.set_status(state="running")
    folder.lock.touch()

    def broken(*_, **__):
        raise OSError(37, "can't be locked", str(folder.lock))

    monkeypatch.setattr(runs.locks, "_share", broken)
    assert runs.liveness.state_of(folder) == "unreadable"
    assert "worker.lock" in runs.overview.summary(folder)["message"]
