"""The time that is left: what a first iteration and the evaluations take doesn't count as the iterations' pace."""

import pytest

from mixgrpo_engine.config import RunConfig
from mixgrpo_engine.training.time_left import Pace, TimeLeft


def test_the_first_time_counts_only_until_there_is_a_second():
    pace, means = Pace(), []
    for seconds in (30.0, 2.0, 4.0, 3.0):
        pace.took(seconds)
        means.append(pace.mean)
    assert means == pytest.approx([30.0, 2.0, 3.0, 3.0])
    for _ in range(100):
        pace.took(3.0)
    pace.took(13.0)
    assert pace.mean == pytest.approx(4.0, abs=1e-3), "a tenth of a single long one"


@pytest.mark.parametrize(
    ("evaluate_every", "sample_every", "done", "evaluations"),
    [(4, 0, 1, 3), (4, 0, 4, 3), (4, 0, 5, 2), (4, 0, 9, 1), (4, 0, 10, 1), (5, 0, 6, 1), (0, 10, 3, 1), (0, 0, 3, 0)],
)
def test_iterations_and_the_evaluations_that_are_due_are_left(evaluate_every, sample_every, done, evaluations):
    left = TimeLeft(RunConfig(iterations=10, evaluate_every=evaluate_every, sample_every=sample_every))
    left.iterations.took(2.0)
    left.evaluations.took(30.0)
    assert left.seconds(done) == 2.0 * (10 - done) + 30.0 * evaluations
