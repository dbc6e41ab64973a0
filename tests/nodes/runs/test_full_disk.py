"""A full disk where a run is started or told about: a sentence, no process without a run, and a last word."""

import errno
import json
import os

import psutil
import pytest


def no_space(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_process_that_could_not_be_found_again_is_ended(runs, folder, monkeypatch):
    started = []

    def write(path, value):
        started.append(value["pid"])
        no_space()

    monkeypatch.setattr(runs.launch, "write_json", write)
    monkeypatch.setattr(runs.launch, "start_orders", lambda *_: {})
    with pytest.raises(OSError, match="No space left"):
        runs.launch.launch(folder)
    assert len(started) == 1 and not psutil.pid_exists(started[0]) and not runs.launch._started
    status = folder.status()
    assert status["state"] == "failed" and "No space left" in status["message"]


@pytest.mark.parametrize("event", ["Failed", "Cancelled"])
def test_the_last_word_has_room(room, folder, monkeypatch, event):
    """Nothing more can be written until the reserve is given up."""
    events, report = room("mixgrpo_engine.records.events"), room("nodes.worker.report")
    reporter = report.Reporter(folder)
    reporter.start()
    reserve = folder.path / ".reserve"
    assert reserve.stat().st_size == report.RESERVE
    emit = folder.emit
    monkeypatch.setattr(folder, "emit", lambda each: no_space() if reserve.exists() else emit(each))
    with pytest.raises(OSError):
        reporter.emit(events.Notice(1, "not important enough"))
    error = room("nodes.worker.errors").failure_of(OSError(errno.ENOSPC, "No space left on device", "/runs/a"))
    reporter.emit(error if event == "Failed" else events.Cancelled(3, "By somebody."))
    told = folder.status()
    assert told["state"] == event.lower()
    assert told["message"] == ("By somebody." if event == "Cancelled" else str(error.message))
    assert error.message.startswith("The disk is full (/runs/a): free some space")
    assert not reserve.exists()


@pytest.mark.parametrize(
    "number, status, words",
    [
        (errno.ENOSPC, 507, "The disk is full"),
        (errno.EROFS, 409, "is read-only"),
        (errno.EACCES, 409, "can't be written"),
        (errno.EIO, 500, "can't be read"),
    ],
)
def test_routes_name_it(runs, folder, monkeypatch, number, status, words):
    import asyncio

    from aiohttp.test_utils import make_mocked_request

    def fail(_):
        raise OSError(number, os.strerror(number), str(folder.path / "launch.json"))

    monkeypatch.setattr(runs.submit, "resume", fail)
    handle = runs.routes.answering(runs.routes._with_folder(runs.routes._resume))
    request = make_mocked_request("POST", "/", match_info={"run_id": folder.name})
    answer = asyncio.run(handle(request))
    assert answer.status == status and words in json.loads(answer.text)["error"]


def test_half_published_loras_of_this_run_alone_are_removed(runs, folder):
    place = runs.paths.lora_folder()
    place.mkdir(parents=True)
    name = folder.name
    ours = [f".{name}.safetensors.1.tmp", f".{name}-best.safetensors.1.tmp", f".{name}-000012.safetensors.1.tmp"]
    others = [f".{name}-2.safetensors.x.tmp", ".other-12345678.safetensors.1.tmp", f"{name}.safetensors"]
    for each in (*ours, *others):
        (place / each).touch()
    runs.published_lora.remove_unfinished(folder)
    assert {path.name for path in place.iterdir()} == set(others)
