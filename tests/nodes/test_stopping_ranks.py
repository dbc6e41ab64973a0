"""Several processes are asked to stop: what a signal means to one of them, and what the run says in the end."""

import sys
import threading

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
    assert ranks.start_and_wait(folder, {}) == 0
    told = folder.status()
    assert (told["state"], told["message"]) == ("cancelled", words)
