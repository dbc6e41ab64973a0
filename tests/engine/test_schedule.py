import math
from fractions import Fraction

import pytest
import torch

from mixgrpo_engine.schedule import flash_sigmas, flash_steps, flow_sigmas


def test_flow_sigmas_known_values():
    torch.testing.assert_close(flow_sigmas(4, 1.0), torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0]))
    torch.testing.assert_close(flow_sigmas(2, 3.0), torch.tensor([1.0, 0.75, 0.0]))
    sigmas = flow_sigmas(25)
    assert sigmas.dtype == torch.float32 and sigmas[0] == 1 and sigmas[-1] == 0
    assert (sigmas.diff() < 0).all()


@pytest.mark.parametrize("ratio", ["0.05", "0.2", "0.4", "0.5", "0.75", "1"])
@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("steps", [10, 25])
def test_flash_ends_at_zero_and_has_the_right_number_of_steps(ratio, size, steps):
    """l + w + n steps for every window start l, n = max(1, ceil((T - l - w) * ratio))."""
    sigmas = flow_sigmas(steps)
    for start in range(steps - size):
        window = range(start, start + size)
        flash = flash_sigmas(sigmas, window, float(ratio))
        assert flash.dtype == torch.float32 and flash[-1] == 0
        assert len(flash) - 1 == start + size + max(1, math.ceil((steps - start - size) * Fraction(ratio)))
        assert torch.equal(flash[: window.stop + 1], sigmas[: window.stop + 1])
        assert (flash.diff() < 0).all()


@pytest.mark.parametrize("shift", [1.0, 3.0, 5.0])
def test_flash_spaces_evenly_in_the_time_before_the_shift(shift):
    flash = flash_sigmas(flow_sigmas(20, shift), range(2, 5), 0.3, shift)
    time = flash / (shift - (shift - 1) * flash)
    # 15 of 20 steps are left, in time 0.75 to 0; ceil(4.5) = 5 take their place.
    torch.testing.assert_close(time[5:], torch.tensor([0.75, 0.6, 0.45, 0.3, 0.15, 0.0]))


def test_flash_with_ratio_1_is_the_schedule_itself():
    sigmas = flow_sigmas(25)
    torch.testing.assert_close(flash_sigmas(sigmas, range(3, 7), 1.0), sigmas, atol=1e-6, rtol=1e-6)


def test_flash_steps_rounds_up_without_binary_surprises():
    assert [flash_steps(n, 0.4) for n in (1, 5, 10, 17, 21)] == [1, 2, 4, 7, 9]
    assert 25 * 0.28 > 7 and flash_steps(25, 0.28) == 7
    assert flash_steps(0, 0.4) == 0


@pytest.mark.parametrize("bad", [0.0, -0.5, 1.5])
def test_bad_ratio(bad):
    with pytest.raises(ValueError, match="ratio"):
        flash_sigmas(flow_sigmas(10), range(0, 4), bad)
