"""A run's history out of its log: curves, thinned out on demand, and lists; damaged lines cost themselves alone."""

import json
import math

import pytest


def iteration(number, **more):
    """As workers write it now."""
    event = {
        "type": "iteration", "time": 1.7e9 + 3.217 * number, "iteration": number, "iterations": 10_000,
        "window": [2, 6], "reward": {"hps": 0.27123456, "ocr": None}, "reward_std": 0.0123456, "loss": -1.2345678e-05,
        "grad_norm": 0.0234567, "ratio_deviation": 2.34567e-5, "clip_fraction": 0.1234567, "forwards": 300 * number,
        "seconds": {"rollout": 10.123456, "total": 16.78}, "eta_seconds": 12.3, "updates": 4, "learning_rate": 1e-4,
        "kl": None, "images": 12, "memory": {"now": 12345678901, "peak": 23456789012},
    }  # fmt: skip
    return {**event, **more}


@pytest.fixture
def log(folder):
    """`log(events...)` appends them to the run's log; texts as they are."""

    def append(*events):
        with open(folder.events, "a") as file:
            for event in events:
                file.write(event if isinstance(event, str) else json.dumps(event) + "\n")

    return append


@pytest.fixture
def told(runs, folder):
    """`told(points, after)` of the run's history as it is now."""
    return lambda points=0, after=0: runs.history.HISTORIES.ask(folder, lambda history: history.told(points, after))


def test_columns_hold_what_the_events_tell_and_nothing_that_none_has(told, log):
    log(iteration(1), iteration(2, kl=0.5, reward={"hps": 0.3, "ocr": 0.25}))
    log({"type": "evaluation", "iteration": 2, "reward": {"hps": 0.5}, "strict": {"ocr": 1.0}, "score": 0.5,
         "change": None, "change_error": None, "scores": [0.5]})  # fmt: skip
    log({"type": "best", "iteration": 2, "score": 0.5, "lora": "x-best.safetensors"})
    log({"type": "notice", "time": 1.0, "iteration": 2, "message": "<b>"}, {"type": "stage", "time": 2.0, "name": "x"})
    answer = told()
    assert answer["iterations"] == {
        "iteration": [1, 2], "window_start": [2, 2], "window_stop": [6, 6], "reward.hps": [0.271235, 0.3],
        "reward.ocr": [None, 0.25], "reward_std": [0.0123456] * 2, "loss": [-1.23457e-05] * 2,
        "grad_norm": [0.0234567] * 2, "ratio_deviation": [2.34567e-05] * 2, "clip_fraction": [0.123457] * 2,
        "kl": [None, 0.5], "learning_rate": [0.0001] * 2, "forwards": [300, 600], "updates": [4, 4],
        "seconds.rollout": [10.1235] * 2, "seconds.total": [16.78] * 2, "memory_now": [12345678901] * 2,
        "memory_peak": [23456789012] * 2, "images": [12, 12], "time": [1700000003.2, 1700000006.4],
    }  # fmt: skip
    assert answer["evaluations"] == {"iteration": [2], "reward.hps": [0.5], "strict.ocr": [1], "score": [0.5]}
    assert answer["best"] == {"iteration": 2, "score": 0.5, "lora": "x-best.safetensors"}
    assert answer["notices"] == [{"iteration": 2, "time": 1.0, "message": "<b>"}]
    assert answer["stages"] == [{"time": 2.0, "name": "x", "message": None}]


def test_old_logs_lack_the_newer_columns(told, log):
    new = ("learning_rate", "kl", "images", "memory", "time")
    log({name: value for name, value in iteration(1).items() if name not in new})
    assert not {"learning_rate", "kl", "images", "memory_now", "time"} & told()["iterations"].keys()
    assert told()["iterations"]["loss"] == [-1.23457e-05]


def test_the_later_one_of_repeated_iterations_counts(told, log):
    log(iteration(1), iteration(2, kl=0.5), iteration(3), {"type": "stage", "name": "resume"})
    log(iteration(2, loss=7.0), iteration(3, loss=8.0), iteration(4, loss=9.0))
    answer = told()["iterations"]
    assert answer["iteration"] == [1, 2, 3, 4] and answer["loss"][1:] == [7, 8, 9]
    assert "kl" not in answer


def test_damaged_lines_are_left_out(told, log):
    log("{\n", '{"type": "iteration", "iter', "\n", "[1]\n", '{"type": 5}\n', "[" * 100_000 + "\n", "\x00\xff\n")
    log(*(iteration(0, iteration=number) for number in ("2", -1, 10**30, True, None, [])))
    log(iteration(1, loss=1.0, window=3, memory=[], seconds=5, reward=None))
    log(iteration(2, loss="x", reward=[1], window=["a", None], kl=10**400, grad_norm=True))
    log('{"type": "iteration", "iteration": 3, "loss": NaN, "kl": Infinity, "reward": {"a": 1e999}}\n')
    answer = told()["iterations"]
    assert answer["iteration"] == [1, 2, 3] and answer["loss"] == [1, None, None]
    assert answer["grad_norm"] == [0.0234567, None, None]
    assert not {"kl", "window_start", "reward.hps", "reward.a"} & answer.keys()


def test_damaged_lines_are_counted_and_told_with_their_file(told, log, folder):
    log(iteration(1), {"type": "notice", "iteration": 1, "message": "one"})
    assert told()["damaged_lines"] == 0 and len(told()["notices"]) == 1
    log("{\n", "\n", "[1]\n", '{"type": "progress", "iter\n')
    answer = told()
    assert answer["damaged_lines"] == 2, "an empty line is none, and of a sign of life nothing is read"
    assert answer["notices"][1]["message"] == f"2 lines are damaged in {folder.events} and left out."


def test_the_line_that_is_being_written_waits_for_its_end(told, log):
    whole = json.dumps(iteration(2))
    log(iteration(1), whole[:50])
    first = told()
    log(whole[50:] + "\n")
    second = told()
    assert (first["iterations"]["iteration"], second["iterations"]["iteration"]) == ([1], [1, 2])
    assert second["offset"] > first["offset"]


def test_only_what_is_new_is_read(runs, told, log, folder, monkeypatch):
    log(*(iteration(number) for number in range(1, 1001)))
    told()
    parsed, parse = [], runs.event_lines.parse
    monkeypatch.setattr(runs.event_lines, "parse", lambda line: parsed.append(line) or parse(line))
    log(iteration(1001), {"type": "progress", "iteration": 1001})
    assert told()["iterations"]["iteration"][-1] == 1001 and len(parsed) == 1
    folder.events.unlink()
    log(*(iteration(number, loss=1.0) for number in range(1, 2001)))
    assert told()["iterations"]["loss"] == [1] * 2000, "another log under the old name"


def test_a_restarted_server_parses_only_what_is_new(runs, told, log, folder, monkeypatch):
    parsed, parse = [], runs.event_lines.parse
    monkeypatch.setattr(runs.event_lines, "parse", lambda line: parsed.append(line) or parse(line))
    sample = {"type": "sample", "iteration": 7, "images": []}
    log({"type": "schedule", "sigmas": [1.0, 0.0]}, {"type": "notice", "iteration": 1, "message": "\ud800"}, sample)
    log("{\n", {"type": "evaluation", "iteration": 5, "score": 0.5}, {"type": "best", "iteration": 5, "score": 0.5})
    log(*(iteration(number, reward={"hps": number / 7}) for number in range(1, 1501)))
    before = told()

    def after_a_restart():
        parsed.clear()
        runs.history.HISTORIES._kept.clear()
        return told(), len(parsed)

    assert after_a_restart() == (before, 0)
    log(iteration(1501))
    answer, lines = after_a_restart()
    assert lines == 1 and answer["iterations"]["iteration"][-1] == 1501
    ask = runs.history.HISTORIES.ask
    assert ask(folder, lambda history: (history.samples, history.schedule["sigmas"])) == (
        {7: json.dumps(sample).encode() + b"\n"}, [1.0, 0.0],
    )  # fmt: skip

    kept = folder.path / runs.kept_history.FILE
    whole = kept.read_bytes()
    for damaged in (b"", whole[:1000], whole[:-1], whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:], b"x" + whole[1:]):
        kept.write_bytes(damaged)
        answer, lines = after_a_restart()
        assert lines > 1501 and answer["damaged_lines"] == 1
        assert after_a_restart() == (answer, 0), "it was written anew"
    runs.signature._key_file().write_bytes(b"0" * 32)
    assert after_a_restart()[1] > 1501, "what another ComfyUI has written isn't taken"
    folder.events.unlink()
    log(iteration(1, loss=1.0))
    assert after_a_restart()[0]["iterations"]["loss"] == [1], "another log under the old name"


def test_thinned_out_rows_are_means_over_equal_stretches(told, log):
    log(*(iteration(n, loss=float(n), kl=n if n % 2 else None, window=[n, n + 4]) for n in range(1, 101)))
    answer = told(points=10)["iterations"]
    assert answer["iteration"] == answer["window_start"] == list(range(10, 101, 10))
    assert answer["loss"] == [5.5 + 10 * stretch for stretch in range(10)]
    assert answer["kl"] == [5 + 10 * stretch for stretch in range(10)], "of the odd ones"
    assert answer["forwards"] == [300 * number for number in answer["iteration"]]
    assert told(points=7, after=95)["iterations"]["iteration"] == [96, 97, 98, 99, 100]
    assert len(told(points=7)["iterations"]["iteration"]) == 7
    assert told(after=100)["iterations"] == {"iteration": []}


def test_ten_thousand_iterations_are_small(room, told, log):
    log(*(iteration(n, loss=math.sin(n) * 1e-5, kl=math.cos(n) ** 2 / 7) for n in range(1, 10_001)))
    answer = told(points=1000)
    assert len(answer["iterations"]["iteration"]) == 1000 and len(answer["iterations"]) == 19
    assert len(room("nodes.answers")._in_pieces(answer)) < 300_000


def test_few_histories_stay_in_memory(runs, room, folder):
    histories = runs.history.Histories()
    for number in range(20):
        histories.ask(runs.paths.folder_of(f"run-{number}"), lambda history: history.told(0, 0))
    assert len(histories._kept) == runs.history.KEPT_RUNS
    folder.events.write_text("".join(json.dumps(iteration(number)) + "\n" for number in range(1, 100)))
    histories.ask(folder, lambda history: None)
    assert str(folder.path) in histories._kept


def test_the_newest_events_and_the_pieces_of_a_log(runs, folder, log):
    lines = [{"type": "x", "number": number} for number in range(1000)]
    log(*lines)
    size = folder.events.stat().st_size
    assert runs.event_lines.newest(folder.events, 0, size) == (lines, size, False)
    newest, end, more = runs.event_lines.newest(folder.events, 0, 500)
    assert newest == lines[-len(newest) :] and (end, more) == (size, True) and len(newest) < 30
    found, offset, more = [], 0, True
    while more:
        part, offset, more = runs.event_lines.read(folder.events, offset, 5000)
        found += part
    assert (found, offset) == (lines, size)


def test_log_tail_is_whole_lines(runs, tmp_path):
    path = tmp_path / "worker.log"
    assert runs.log_tail.read(path, 10) == {"text": "", "size": 0}
    path.write_bytes(b"first\nsecond\xff\nthird\n")
    assert runs.log_tail.read(path, 100)["text"] == "first\nsecond\ufffd\nthird\n"
    assert runs.log_tail.read(path, 8) == {"text": "third\n", "size": 20}
    assert runs.log_tail.read(path, 6)["text"] == "third\n", "the cut may lie between two lines"
    assert runs.log_tail.read(path, 0)["text"] == ""
