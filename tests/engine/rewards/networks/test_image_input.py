"""Pixels against the library that published scorers prepare theirs with, and against Pillow itself."""

import numpy as np
import pytest
import torch
from PIL import Image

from mixgrpo_engine.rewards.networks import image_input
from tests.engine.rewards import tiny_clips as tiny

# One level of 256 after the normalisation.
LEVEL = 1 / 255 / min(image_input.STD)


def off_by_more_than_rounding(ours, published):
    return (ours - published).abs() > 1e-5


@pytest.mark.parametrize("height, width", tiny.SIZES)
@pytest.mark.parametrize(
    "ours, published",
    [(image_input.cropped, tiny.cropped_by_pillow), (image_input.padded, tiny.padded_by_pillow)],
)
def test_same_pixels_as_published(ours, published, height, width):
    images = tiny.pictures(4, height, width)
    pixels, expected = ours(images, tiny.SIZE), published(images)
    assert pixels.shape == expected.shape == (4, 3, tiny.SIZE, tiny.SIZE)
    assert (pixels - expected).abs().max() <= LEVEL + 1e-5
    assert off_by_more_than_rounding(pixels, expected).float().mean() < 1e-3


@pytest.mark.parametrize("height, width, to_height, to_width", [(91, 37, 78, 32), (700, 513, 305, 224)])
def test_width_then_height(height, width, to_height, to_width):
    """Two calls, since Pillow 13 chooses the order of one call by itself."""
    (image,) = tiny.pictures(1, height, width)
    (pillow,) = tiny.as_pillow(image[None])
    expected = pillow.resize((to_width, height), Image.BICUBIC).resize((to_width, to_height), Image.BICUBIC)
    levels = image_input._resized(image_input._levels(image[None]), to_height, to_width)[0].movedim(0, -1).numpy()
    difference = np.abs(levels - np.asarray(expected).astype(float))
    assert difference.max() <= 1 and difference.mean() < 1e-3


def test_black_around_a_wide_image():
    pixels = image_input.padded(torch.ones(1, 10, 40, 3), 40)
    black, white = ((torch.tensor([value] * 3) - torch.tensor(image_input.MEAN)) for value in (0.0, 1.0))
    rows = (pixels * torch.tensor(image_input.STD).view(3, 1, 1))[0, :, :, 0].T
    torch.testing.assert_close(rows, torch.stack([black] * 15 + [white] * 10 + [black] * 15))


def test_the_thinnest_image_still_has_a_row():
    assert image_input.padded(torch.ones(1, 1, 500, 3), 32).isfinite().all()
    assert image_input.cropped(torch.ones(1, 1, 500, 3), 32).shape == (1, 3, 32, 32)
