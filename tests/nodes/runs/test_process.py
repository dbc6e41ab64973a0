"""Which process is a run's worker: only that one is believed to live, and only that one gets a signal."""

import json
import subprocess
import sys
import time

import pytest


def sleeper(*arguments):
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", *arguments])


@pytest.fixture
def worker(folder):
    """A process that stands for the run's worker."""
    process = sleeper("/pack/nodes/worker/entry.py", str(folder.path))
    yield process
    process.kill()
    process.wait()


def test_live_worker_is_running_and_a_dead_one_dead(runs, folder, worker):
    folder.set_status(state="running", iteration=1)
    (folder.path / "launch.json").write_text(json.dumps(runs.process.identity(worker.pid)))
    assert runs.liveness.state_of(folder) == "running"
    worker.kill()
    # Not waited for yet, the process is a zombie: that is no worker either.
    deadline = time.monotonic() + 10
    while runs.liveness.state_of(folder) == "running" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert runs.liveness.state_of(folder) == "dead"


def test_reused_pid_is_not_the_worker(runs, folder, worker):
    folder.set_status(state="running")
    identity = runs.process.identity(worker.pid)
    (folder.path / "launch.json").write_text(json.dumps({**identity, "pid_created": identity["pid_created"] - 60}))
    assert runs.liveness.state_of(folder) == "dead"
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
        assert runs.liveness.state_of(folder) == "dead"
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
