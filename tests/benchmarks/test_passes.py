"""The demo with several passes over an iteration's images."""

import pytest

from benchmarks import demo_model, passes


@pytest.fixture(scope="module")
def demo(comfy):
    return demo_model.load(own=True)


def test_only_what_is_compared_differs(demo):
    one, two = (passes.settings(demo.settings, "clip", each, passes.ITERATIONS[each], 1) for each in (1, 2))
    assert (one.window.interval, two.window.interval) == (6, 4) and one.rollout == two.rollout == demo.settings.rollout
    assert one.optimizer.schedule == "linear" and (one.optimizer.epochs, two.optimizer.epochs) == (1, 2)


def test_a_run_tells_how_far_each_pass_has_moved(demo):
    row = passes.train(demo, passes.settings(demo.settings, "kl_mask", 2, 1, 0))
    assert 0 < row["ratio_deviation"]["1"] < row["ratio_deviation"]["2"] < 1e-3
    assert 0.5 < row["reward"] < 1 and row["processor_seconds"] > 0
