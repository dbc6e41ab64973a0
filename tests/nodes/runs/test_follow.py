"""The follower: new events of every run are sent on, whatever is wrong with another run's folder."""

import pytest


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
