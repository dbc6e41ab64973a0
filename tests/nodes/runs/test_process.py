"""Which process is a run's worker: only that one is believed to live, and only that one gets a signal."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest


def sleeper(*arguments):
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", *arguments])


SHOW = """
import importlib, sys, types
sys.path[:0] = {paths!r}
for name in ("pack", "pack.nodes", "pack.nodes.runs"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [{root!r} + name[4:].replace(".", "/")]
print(" ".join(importlib.import_module("pack.nodes.runs.process").python()[1:]))
"""


@pytest.mark.parametrize("flags", [[], ["-s"], ["-E"], ["-I"], ["-sE"]])
def test_a_worker_leaves_out_what_the_server_leaves_out(flags):
    """Portable ComfyUI starts with -s: packages of the user's own Python would be others than those it came with."""
    names = "isolated", "no_user_site", "ignore_environment"
    look = f"import sys; print([getattr(sys.flags, name) for name in {names!r}], sys.flags.utf8_mode)"
    shown = SHOW.format(paths=sys.path, root=str(Path(__file__).resolve().parents[3]))

    def run(*arguments):
        done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    theirs = run(*run(*flags, "-c", shown).split(), "-c", look)
    assert theirs == run(*flags, "-X", "utf8", "-c", look) and theirs.endswith(" 1")


@pytest.fixture
def worker(folder):
    """A process that stands for the run's worker."""
    process = sleeper("/pack/nodes/worker/entry.py", str(folder.path))
    yield process
    process.kill()
    process.wait()


def test_a_worker_that_begins_anew_lives_though_it_has_no_command_line_for_a_moment(runs, folder, worker, monkeypatch):
    folder.set_status(state="running", iteration=0)
    (folder.path / "launch.json").write_text(json.dumps(runs.process.identity(worker.pid)))
    monkeypatch.setattr(runs.process.psutil.Process, "cmdline", lambda self: [])
    assert runs.liveness.state_of(folder) == "running"
    monkeypatch.setattr(runs.process.psutil.Process, "cmdline", lambda self: ["something", "else"])
    assert runs.liveness.state_of(folder) == "dead"


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


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_worker_named_in_its_folder_gets_the_signal(runs, folder, worker):
    folder.set_status(state="running", **runs.process.identity(worker.pid))
    (folder.path / "launch.json").write_text(json.dumps(runs.process.identity(worker.pid)))
    assert runs.cancel.cancel(folder) is True
    assert worker.wait(10) == -15


@pytest.mark.parametrize("who", [{"pid": "1"}, {"pid": [1]}, {"pid": -1}, {"pid": 2**70, "pid_created": 1}, {"pid": 1}])
def test_pid_that_is_none_is_no_process(runs, folder, who):
    assert runs.process.is_alive({"pid_created": 0.0, **who}, folder.path) is False
    runs.process.terminate({"pid_created": None, **who}, folder.path)
