"""The follower: new events of every run are sent on, whatever is wrong with another run's folder."""

import shutil
import time

import pytest
from filelock import FileLock


@pytest.fixture
def follower(runs):
    """A follower that looks at all runs every round, and the messages that it has sent."""
    runs.news.take()
    sent = []
    return runs.follow.Follower(lambda event, message: sent.append({"event": event, **message}), 0.0), sent


def append(folder, text):
    with open(folder.events, "a") as log:
        log.write(text)
    folder.set_status()  # as a worker does


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
    append(folder, '{"type": "done"}\n')
    look.look()
    assert [(m["run_id"], m["events"], m["more"]) for m in sent] == [(folder.name, [{"type": "done"}], False)]
    # Nothing is opened where nothing has changed.
    monkeypatch.setattr(runs.follow.event_lines, "newest", None)
    look.look()
    sent.clear()
    shutil.rmtree(folder.path)
    look.look()
    assert sent == [{"event": "mixgrpo.removed", "run_id": folder.name}]
    assert look._runs.keys() <= {"damaged-run", "impossible-run"}


def test_follower_starts_over_with_a_new_log_of_an_old_name(folder, follower):
    look, sent = follower
    folder.set_status(state="cancelled")
    folder.events.write_text('{"type": "stage"}\n' * 5)
    look.look()
    assert len(sent[-1]["events"]) == 5
    folder.events.write_text("")
    append(folder, '{"type": "done"}\n')
    look.look()
    assert sent[-1]["events"] == [{"type": "done"}]


def test_a_long_log_that_appears_is_told_by_its_newest_events(folder, follower):
    look, sent = follower
    folder.set_status(state="cancelled")
    append(folder, "".join(f'{{"type": "progress", "done": {number}}}\n' for number in range(100_000)))
    look.look()
    (message,) = sent
    assert message["more"] and [event["done"] for event in message["events"]] == list(range(99_800, 100_000))
    append(folder, '{"type": "done"}\n')
    look.look()
    assert sent[-1]["events"] == [{"type": "done"}] and not sent[-1]["more"]


def test_only_runs_at_work_and_those_that_were_told_of_are_looked_at_between_sweeps(runs, folder, monkeypatch):
    sent, seen = [], []
    look = runs.follow.Follower(lambda _, message: sent.append(message), 3600.0)
    folder.set_status(state="cancelled")
    look.look()
    sent.clear()
    monkeypatch.setattr(look, "_look_at", lambda name, told: seen.append((name, told)))
    append(folder, '{"type": "stage"}\n')
    look.look()
    assert not seen
    runs.news.tell(folder.name)
    look.look()
    assert seen == [(folder.name, True)]
    look._runs[folder.name].state = "running"
    look.look()
    assert seen[1:] == [(folder.name, False)]


def test_follower_tells_when_the_process_of_an_ended_run_is_gone(folder, follower):
    """Only then can the run be deleted, or resumed after a cancel: the last event comes before."""
    look, sent = follower
    folder.events.write_text('{"type": "cancelled"}\n')
    with FileLock(folder.lock):
        folder.set_status(state="cancelled")
        look.look()
        assert "delete" not in sent[-1]["status"]["actions"]
        sent.clear()
        look.look()
        assert sent == []
    monotonic = time.monotonic()
    while not sent:
        assert time.monotonic() < monotonic + 20
        look.look()
    assert "delete" in sent[-1]["status"]["actions"] and sent[-1]["events"] == []
