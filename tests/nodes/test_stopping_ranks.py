"""Several processes are asked to stop: what a signal means to one of them, and what the run says in the end."""

import importlib.util
import json
import os
import sys
import threading
import time

import pytest


def test_a_signal_waits_for_the_wish_to_stop(room, folder, monkeypatch):
    """A machine that shuts down signals all processes at once, and the launcher makes the file a moment later."""
    module = room("nodes.worker.stop")
    monkeypatch.setattr(module, "FILE_SECONDS", 60.0)
    stop = module.Stop(folder, one_of_several=True)
    assert not stop.requested()
    stop._on_signal()
    later = threading.Timer(0.2, folder.cancel_file.touch)
    later.start()
    assert stop.requested()
    later.join()


def test_a_signal_alone_says_that_another_process_has_ended(room, folder, monkeypatch):
    module = room("nodes.worker.stop")
    monkeypatch.setattr(module, "FILE_SECONDS", 0.1)
    stop, alone = module.Stop(folder, one_of_several=True), module.Stop(folder)
    stop._on_signal(), alone._on_signal()
    with pytest.raises(room("nodes.worker.errors").OthersEnded):
        stop.requested()
    assert alone.requested()


@pytest.mark.parametrize(
    "status, words",
    [
        ({}, "Cancelled while its processes were starting."),
        ({"iteration": 2}, "Cancelled before its first checkpoint."),
        ({"iteration": 9, "checkpoint": 8}, "Cancelled, its checkpoint holds 8 iterations."),
    ],
)
def test_a_run_without_a_last_word_says_what_it_has(room, folder, monkeypatch, status, words):
    ranks = room("nodes.worker.ranks")
    monkeypatch.setattr(ranks, "_command", lambda *_: [sys.executable, "-c", ""])
    monkeypatch.setattr(ranks.Stop, "listen", lambda _: None)
    folder.set_status(state="running", **status)
    folder.cancel_file.touch()
    assert ranks.start_and_wait(folder, {"packs": [], "others": {}}) == 0
    told = folder.status()
    assert (told["state"], told["message"]) == ("cancelled", words)


@pytest.fixture
def ranks(room, monkeypatch):
    """The module, in a launcher whose processes end at once."""
    module = room("nodes.worker.ranks")
    monkeypatch.setattr(module, "_command", lambda *_: [sys.executable, "-c", ""])
    monkeypatch.setattr(module.Stop, "listen", lambda _: None)
    return module


def test_a_launcher_writes_nothing_into_a_run_that_was_started_again(room, folder, ranks):
    process = room("nodes.runs.process")
    for who, state in (({"pid": 1, "pid_created": 1.0}, "running"), (process.identity(), "failed")):
        (folder.path / "launch.json").write_text(json.dumps(who))
        folder.set_status(state="running")
        ranks.start_and_wait(folder, {"packs": [], "others": {}})
        assert folder.status()["state"] == state
    (folder.path / "launch.json").write_text(json.dumps({"pid": 1, "pid_created": 1.0}))
    assert not ranks._is_launcher(folder)


def failure(folder, rank, message, at, start="now", lost=False):
    told = {"type": "failed", "time": at, "message": message, "start": start, "lost": lost}
    (folder.path / f"rank-{rank}.json").write_text(json.dumps(told))


def test_the_first_real_failure_of_this_start_is_told(folder, ranks):
    assert ranks.first_failure(folder, "now") is None
    failure(folder, 1, "[gloo] Connection closed by peer", 1.0, lost=True)
    failure(folder, 2, "of an earlier start", 2.0, start="before")
    assert ranks.first_failure(folder, "now") is None
    failure(folder, 3, "second", 4.0)
    failure(folder, 4, "first", 3.0)
    for number, damaged in enumerate(("{", "[]", '{"start": "now"}', '{"start": "now", "lost": false, "time": "x"}')):
        (folder.path / f"rank-{5 + number}.json").write_text(damaged)
    assert ranks.first_failure(folder, "now").message == "first"
    (folder.path / "rank-99.json").mkdir()
    ranks.forget_failures(folder)
    assert not list(folder.path.glob("rank-*"))


@pytest.mark.parametrize(
    "error, other, wish, state, words",
    [
        (ValueError("own"), None, False, "failed", "own"),
        (ValueError("own"), "Process 1: theirs", False, "failed", "Process 1: theirs"),
        (RuntimeError("[gloo] Connection closed by peer"), "Process 1: theirs", False, "failed", "Process 1: theirs"),
        (RuntimeError("[gloo] Connection closed by peer"), None, False, "failed", "ended without a word (killed"),
        (RuntimeError("[gloo] Connection closed by peer"), None, True, "cancelled", "Cancelled"),
    ],
)
def test_who_loses_the_others_tells_their_reason(room, folder, ranks, monkeypatch, error, other, wish, state, words):
    monkeypatch.setenv(ranks.START_VARIABLE, "now")
    folder.set_status(state="running")
    if other:
        failure(folder, 1, other, time.time())
    if wish:
        folder.cancel_file.touch()
    reporter = room("nodes.worker.report").Reporter(folder)
    reporter.emit(ranks.last_word(folder, error, reporter, ranks.Stop(folder, one_of_several=True)))
    told = folder.status()
    assert told["state"] == state and words in told["message"]


def test_the_others_take_what_the_first_process_has_made_at_this_start(folder, ranks, monkeypatch):
    class Asked(Exception):
        pass

    class Stop:
        def check(self):
            raise Asked

    never = lambda: pytest.fail("only the first process makes it")  # noqa: E731
    monkeypatch.setenv(ranks.START_VARIABLE, "before")
    assert ranks.from_first(folder, Stop(), lambda: ["a", "b"]) == ["a", "b"]
    monkeypatch.setenv("RANK", "1")
    assert ranks.from_first(folder, Stop(), never) == ["a", "b"]
    monkeypatch.setenv(ranks.START_VARIABLE, "now")
    with pytest.raises(Asked):
        ranks.from_first(folder, Stop(), never)


def test_a_rank_stays_one_without_its_orders(ranks, monkeypatch):
    """They hold the key, and whatever it starts inherits its environment."""
    monkeypatch.setenv(ranks.ORDERS_VARIABLE, json.dumps({"key": "00"}))
    monkeypatch.setenv(ranks.START_VARIABLE, "now")
    monkeypatch.setenv("RANK", "1")
    assert ranks.orders() == {"key": "00"} and ranks.ORDERS_VARIABLE not in os.environ
    spec = importlib.util.spec_from_file_location(ranks.__name__, ranks.__file__)
    copy = importlib.util.module_from_spec(spec)  # the one that ComfyUI loads
    spec.loader.exec_module(copy)
    assert copy.is_rank() and copy.index() == 1
