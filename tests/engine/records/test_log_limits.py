"""Logs have a bound: what is left out of a long one, and that those who read it notice."""

import json

import pytest

from mixgrpo_engine.records import log_limits
from mixgrpo_engine.records.events import Best, Evaluation, EventLog, Notice, Progress, Stage, of_types


@pytest.fixture
def limits(monkeypatch):
    monkeypatch.setattr(log_limits, "EVENTS_BYTES", 20_000)
    monkeypatch.setattr(log_limits, "NEWEST", 10)
    monkeypatch.setattr(log_limits, "WORKER_BYTES", 1000)


def test_a_log_of_any_length_keeps_within_its_bound_and_tells_of_all_times(tmp_path, limits):
    path, sizes = tmp_path / "events.jsonl", []
    path.touch()
    log = EventLog(path)
    log.append(Stage("train"))
    for iteration in range(1000):
        log.append(Progress(iteration, 1000, "rollout", 0, 1))
        if iteration == 333:
            log.append(Best(iteration, 0.9, "best.safetensors"))
        log.append(Evaluation(iteration, {"a": 0.9 if iteration == 333 else 0.1}))
        sizes.append(path.stat().st_size)
    assert max(sizes) < 21_000 and sum(b < a for a, b in zip(sizes, sizes[1:], strict=False)) > 3
    kept = [event["iteration"] for event in of_types(path, "evaluation")]
    assert kept == sorted(kept) and kept[0] == 0 and kept[-10:] == list(range(990, 1000)) and 333 in kept
    assert max(b - a for a, b in zip(kept, kept[1:], strict=False)) < 100, "all times of the run have some"
    assert [event["type"] for event in of_types(path, "stage", "best")] == ["stage", "best"]
    assert "every other event before is left out" in json.loads(path.read_text().splitlines()[0])["message"]


def test_what_has_to_stay_is_not_gone_through_for_every_event(tmp_path, limits, monkeypatch):
    path, calls = tmp_path / "events.jsonl", []
    path.touch()
    thin_out = log_limits.thin_out
    monkeypatch.setattr(log_limits, "thin_out", lambda *given: calls.append(1) or thin_out(*given))
    log = EventLog(path)
    for _ in range(60):
        log.append(Notice(0, "x" * 3000))
    assert 1 <= len(calls) < 20


def test_damaged_lines_go_with_the_rest(tmp_path, limits):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"type": "stage", "name": "a"}\nnonsense\n\xff\xfe\n{"type": "best", "iter\n{"type": "done"}\n')
    size = log_limits.thin_out(path, {"type": "notice"})
    assert size == path.stat().st_size
    assert [json.loads(line)["type"] for line in path.read_text().splitlines()] == ["notice", "stage", "done"]


def test_a_workers_log_keeps_its_end(tmp_path, limits):
    log = tmp_path / "worker.log"
    log_limits.cut(log)
    with open(log, "ab", buffering=0) as writer:  # as the server opens it for the worker
        for number in range(300):
            writer.write(b"line %d\n" % number)
            log_limits.cut(log)
    lines = log.read_text().splitlines()
    assert log.stat().st_size <= 1000
    assert lines[0] == "(what came before is left out)" and lines[-1] == "line 299"
    numbers = [int(line.split()[1]) for line in lines[1:]]
    assert numbers == list(range(numbers[0], 300))
