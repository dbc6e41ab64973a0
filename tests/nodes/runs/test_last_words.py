"""What a library says in a run's last words reaches node, panel and API as text that can be read."""

import json

import pytest

BAD = "NUL \0, half a pair \ud800, \x1b[31mred\x1b[0m " + "x" * 2_000_000


@pytest.fixture
def failed(room, folder):
    """The run has failed with such words."""
    module = room("nodes.worker.report")
    reporter = module.Reporter(folder)
    reporter.start()
    try:
        raise RuntimeError(BAD)
    except RuntimeError as error:
        reporter.emit(room("nodes.worker.errors").failure_of(error))
    return folder


def test_the_run_stays_readable(runs, failed):
    summary = runs.overview.summary(failed)
    assert summary["state"] == "failed"
    assert summary["message"].startswith("NUL \ufffd, half a pair \ufffd, red xxx") and len(summary["message"]) <= 4000
    json.dumps(summary).encode()
    page = runs.report_page.make(failed, summary, runs.stored.job(failed), runs.history.History(failed))
    page.encode()
    told = runs.wait.ending(failed, "failed")
    told.encode()
    assert "test_last_words" in told and len(told) < 10_000


def test_a_run_that_an_older_version_ended_so_is_readable(runs, folder):
    folder.status_file.write_text(json.dumps({"state": "failed", "message": BAD}))
    summary = runs.overview.summary(folder)
    assert summary["state"] == "failed" and summary["message"].startswith("NUL \ufffd")


def test_the_log_is_text_whatever_was_printed(runs, folder):
    folder.log.write_bytes(b"before\n\0\xff\x1b[31mred\x1b[0m 10%\r20%\nafter\n")
    assert runs.log_tail.read(folder.log, 1000)["text"] == "before\n\ufffd\ufffdred 10%\n20%\nafter\n"


def test_graph_errors_are_cut_too(room):
    errors = room("nodes.worker.errors")
    told = errors.failure_of(errors.GraphError(BAD, "7", "first\n" + "y" * 10**6 + "\nlast"))
    assert len(told.message) <= 4000 and told.traceback.endswith("\nlast") and len(told.traceback) <= 4000
