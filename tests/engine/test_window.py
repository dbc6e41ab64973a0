import pytest

from mixgrpo_engine.window import SlidingWindow


def starts(window, count):
    return [window.at(i).start for i in range(count)]


def test_constant_moves_every_interval_and_stays_at_the_end():
    window = SlidingWindow(steps=8, size=4, interval=3)
    assert starts(window, 15) == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3, 3]


def test_a_wider_stride_ends_at_the_last_place_too():
    assert starts(SlidingWindow(steps=10, size=4, stride=2, interval=2), 10) == [0, 0, 2, 2, 4, 4, 5, 5, 5, 5]
    assert starts(SlidingWindow(steps=9, size=4, stride=2, interval=1), 5) == [0, 2, 4, 4, 4]


def test_wrap_starts_again():
    window = SlidingWindow(steps=7, size=4, interval=2, wrap=True)
    assert starts(window, 8) == [0, 0, 1, 1, 2, 2, 0, 0]


@pytest.mark.parametrize("strategy", ["constant", "linear_decay", "exp_decay", "random", "frozen"])
@pytest.mark.parametrize("size,stride", [(1, 1), (4, 1), (4, 3), (6, 2)])
@pytest.mark.parametrize("wrap", [False, True])
def test_always_full_width_and_never_the_last_step(strategy, size, stride, wrap):
    window = SlidingWindow(25, size, stride, 5, strategy, wrap=wrap)
    for iteration in range(600):
        steps = window.at(iteration)
        assert len(steps) == size and steps.start >= 0 and steps.stop <= 24


def test_every_trainable_step_is_reached():
    for strategy in ("constant", "linear_decay", "exp_decay", "random"):
        window = SlidingWindow(25, 4, 3, 4, strategy)
        assert {step for i in range(600) for step in window.at(i)} == set(range(24)), strategy


def test_linear_decay_known_values():
    # 10 iterations at the first of 4 places, a quarter less at each one after it, rounded up.
    assert starts(SlidingWindow(8, 4, 1, 10, "linear_decay"), 30) == [0] * 10 + [1] * 8 + [2] * 5 + [3] * 7
    wrapped = SlidingWindow(8, 4, 1, 10, "linear_decay", wrap=True)
    assert starts(wrapped, 30) == [0] * 10 + [1] * 8 + [2] * 5 + [3] * 3 + [0] * 4


def test_exp_decay_known_values():
    window = SlidingWindow(25, 4, 1, 25, "exp_decay")
    # tau(l) = ceil(25 exp(-0.1 max(0, l - 13))): 25 up to place 13, then 23, 21, 19, ...
    stays = [sum(1 for i in range(1000) if window.at(i).start == place) for place in range(16)]
    assert stays == [25] * 14 + [23, 21]


def test_random_is_a_function_of_seed_and_iteration():
    one, same, other = (SlidingWindow(25, 4, strategy="random", seed=s) for s in (3, 3, 4))
    assert starts(one, 50) == starts(same, 50) != starts(other, 50)
    assert one.at(17) == same.at(17)  # asked out of order, as a resume does
    assert len(set(starts(one, 300))) == 21


def test_frozen_never_moves():
    assert set(starts(SlidingWindow(25, 4, strategy="frozen", interval=1), 100)) == {0}


@pytest.mark.parametrize("bad", [dict(size=25), dict(size=0), dict(stride=0), dict(interval=0), dict(strategy="x")])
def test_bad_settings(bad):
    with pytest.raises(ValueError):
        SlidingWindow(25, **bad)
