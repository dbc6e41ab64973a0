"""A worker that was asked to stop ends, whatever its scorers and models do: in a process, which really ends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mixgrpo_engine.records.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[3]
BEGIN = f"""
import importlib, sys, threading, time, types
from pathlib import Path
for name, folder in (("pack", {str(ROOT)!r}), ("pack.nodes", {str(ROOT / "nodes")!r})):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [folder]
parts = "watchdog", "report", "stop"
watchdog, report, stop = (importlib.import_module("pack.nodes.worker." + each) for each in parts)
events = importlib.import_module("pack.mixgrpo_engine.records.events")
watchdog.LOOK_SECONDS = 0.05
folder = importlib.import_module("pack.mixgrpo_engine.records.run_folder").RunFolder(sys.argv[1])
reporter, stop = report.Reporter(folder), stop.Stop(folder)
reporter.start()
reporter.emit(events.CheckpointSaved(4, "checkpoints/000004"))
dog = watchdog.Watchdog(reporter, stop, 0.3, (folder.path / "tidy").touch)
dog.start()
"""
HANG = "threading.Event().wait()\n"
WISH = "folder.cancel_file.touch()\n"


@pytest.fixture
def ended(tmp_path):
    def run(*code):
        folder = RunFolder(tmp_path / "run")
        folder.create()
        done = subprocess.run([sys.executable, "-c", BEGIN + "".join(code), folder.path], timeout=60)
        return folder, done.returncode

    return run


def test_a_call_that_never_returns_is_ended_after_the_wish_to_stop(ended):
    folder, code = ended(WISH, HANG)
    told = folder.status()
    assert (code, told["state"]) == (0, "cancelled") and (folder.path / "tidy").exists()
    assert told["message"] == (
        "Cancelled: what was at work didn't end within 0.3 s, so the process was ended; its checkpoint holds 4 "
        "iterations."
    )


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_a_signal_is_such_a_wish(ended):
    folder, code = ended("stop.listen()\nimport signal, os\nos.kill(os.getpid(), signal.SIGTERM)\n", HANG)
    assert (code, folder.status()["state"]) == (0, "cancelled")


def test_update_steps_and_checkpoints_are_finished_first(ended):
    steps = """
stepping = True
stop.finishing = lambda: stepping
folder.cancel_file.touch()
time.sleep(1.5)
(folder.path / "finished").touch()
stepping = False
"""
    folder, code = ended(steps, HANG)
    assert (code, folder.status()["state"]) == (0, "cancelled") and (folder.path / "finished").exists()


def test_steps_that_never_end_are_ended_too(ended):
    folder, code = ended("watchdog.SILENT_SECONDS = 0.5\nstop.finishing = lambda: True\n", WISH, HANG)
    assert (code, folder.status()["state"]) == (0, "cancelled")


@pytest.mark.parametrize("event", ['Done(9, "x", 1.0)', 'Failed("Broken.")', 'Cancelled(4, "By itself.")'])
def test_a_process_that_stays_after_its_last_word_is_ended_and_keeps_that_word(ended, event):
    left = "threading.Thread(target=threading.Event().wait).start()\n"  # as a library's own thread
    folder, code = ended(f"reporter.emit(events.{event})\n", left)
    assert code == 0
    assert folder.status()["state"] == {"D": "finished", "F": "failed", "C": "cancelled"}[event[0]]
    assert folder.status()["message"] in ("", "Broken.", "By itself.")


def test_without_a_wish_nothing_is_ended(ended):
    folder, code = ended("time.sleep(1.5)\nsys.exit(7)\n")
    assert (code, folder.status()["state"]) == (7, "running")
