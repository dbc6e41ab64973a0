"""The few numbers that a list of runs draws."""

import pytest

from mixgrpo_engine.records.sparkline import LENGTH, extended


def line_of(iterations, line=None):
    for iteration in iterations:
        line = extended(line, iteration, float(iteration))
    return line


@pytest.mark.parametrize("count", [1, 2, 64, 65, 128, 129, 1000, 10_000])
def test_it_spans_the_run_in_at_most_64_values_at_equal_distances(count):
    line = line_of(range(1, count + 1))
    assert len(line["values"]) <= LENGTH
    assert line["values"] == [float(value) for value in range(1, count + 1, line["every"])]
    assert count <= LENGTH or len(line["values"]) > LENGTH // 2


@pytest.mark.parametrize("stopped, resumed", [(50, 41), (200, 151), (200, 150), (64, 1)])
def test_what_a_resumed_run_repeats_replaces_what_was_there(stopped, resumed):
    line = line_of(range(1, stopped + 1))
    first = extended(line, resumed, 0.5)["values"]
    assert first[: -(-(resumed - 1) // line["every"])] == line["values"][: -(-(resumed - 1) // line["every"])]
    assert all(value < resumed for value in first)
    again = line_of(range(resumed, stopped + 1), line)
    assert again == line


def test_iterations_of_before_are_gaps_and_an_unscored_one_is_none():
    assert extended(None, 4, 1.0) == {"every": 1, "values": [None, None, None, 1.0]}
    assert extended({"every": 1, "values": [1.0]}, 2, None)["values"] == [1.0, None]
    late = extended(None, 500_001, 1.0)
    assert len(late["values"]) <= LENGTH and set(late["values"]) <= {None, 1.0}
