"""Pictures for people: what a grid shows of a video."""

import pytest
import torch

from mixgrpo_engine.records.grid import stills


def numbered(frames, height=4):
    """Two videos whose k-th frame is k (counted from 1) everywhere, the second one a hundred more."""
    strip = torch.arange(1.0, frames + 1).repeat_interleave(height)[None, :, None, None].expand(2, -1, 3, 3)
    return strip + torch.tensor([0.0, 100.0])[:, None, None, None]


@pytest.mark.parametrize(
    ("frames", "shown", "words"),
    [
        (5, [1, 3, 5], "frames 1, 3 and 5 of 5"),
        (2, [1, 2], "frames 1 and 2 of 2"),
        (81, [1, 41, 81], "frames 1, 41 and 81 of 81"),
    ],
)
def test_a_video_is_its_first_middle_and_last_frame_side_by_side(frames, shown, words):
    pictures, said = stills(numbered(frames), frames)
    assert pictures.shape == (2, 4, 3 * len(shown), 3) and said == words
    assert pictures[0, :, ::3, 0].tolist() == [shown] * 4
    assert pictures[1, 0, ::3, 0].tolist() == [100 + number for number in shown]


def test_an_image_stays_as_it_is():
    images = torch.rand(2, 4, 3, 3)
    assert stills(images, 1)[0] is images and stills(images, 1)[1] == ""
