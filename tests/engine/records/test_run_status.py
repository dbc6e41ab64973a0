"""What events change in status.json."""

import pytest

from mixgrpo_engine.records.events import Evaluation, Iteration
from mixgrpo_engine.records.run_status import fields_of


def iteration(number, **reward):
    return Iteration(
        number, 10, (0, 2), reward, 0.1, 0.0, 1.0, 0.0, 0.0, 100, {"total": 4.0}, 60.0, 2, 1e-4, None, 24,
        {"now": 5, "peak": 7},
    )  # fmt: skip


def test_iterations_draw_a_line_and_tell_speed_and_memory():
    first = fields_of(iteration(1, a=0.5, b=1.5), {"state": "running"})
    assert first["sparkline"] == {"every": 1, "values": [1.0]}
    assert first["images_per_second"] == 6.0 and first["memory"] == {"now": 5, "peak": 7}
    nan = float("nan")
    second = fields_of(iteration(2, a=nan, b=3.0), first)
    third = fields_of(iteration(3, a=nan, b=nan), second)
    assert third["sparkline"]["values"] == [1.0, 3.0, None]
    assert fields_of(iteration(2, a=0.0, b=0.0), third)["sparkline"]["values"] == [1.0, 0.0], "a resumed run"


def test_held_out_scores_are_told_since_the_first():
    first = fields_of(Evaluation(0, {"a": 0.5}, {}, 0.5), {})
    assert first["held_out"] == {"first": 0.5, "last": 0.5, "change": None, "error": None}
    second = fields_of(Evaluation(25, {"a": 0.75}, {}, 0.75, 0.25, 0.1), first)
    assert second["held_out"] == {"first": 0.5, "last": 0.75, "change": 0.25, "error": 0.1}


def test_a_run_that_an_older_version_began_tells_its_first_score_too():
    found = fields_of(Evaluation(50, {"a": 0.75}, {}, 0.75, 0.25, None), {"held_out_reward": {"a": 0.6}})["held_out"]
    assert found == {"first": pytest.approx(0.5), "last": 0.75, "change": 0.25, "error": None}
