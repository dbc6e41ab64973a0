"""JPEG size against PIL, on pictures whose order is known."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from mixgrpo_engine.rewards import Reward
from mixgrpo_engine.rewards.jpeg import JpegReward

NOISE = torch.rand(64, 48, 3, generator=torch.Generator().manual_seed(0))
PLAIN = torch.full((64, 48, 3), 0.5)
PICTURES = torch.stack([PLAIN, 0.8 * PLAIN + 0.2 * NOISE, NOISE])


def size(image, quality):
    file = io.BytesIO()
    Image.fromarray(np.uint8(np.round(image.numpy() * 255))).save(file, "JPEG", quality=quality)
    return len(file.getvalue()) / 1000


@pytest.mark.parametrize("quality", [95, 50])
def test_it_is_the_files_size_in_kilobytes(quality):
    large, small = JpegReward("incompressibility", quality), JpegReward("compressibility", quality)
    assert isinstance(large, Reward) and (large.name, small.name) == ("incompressibility", "compressibility")
    wanted = torch.tensor([size(image, quality) for image in PICTURES])
    scores = large.score(PICTURES, ["never"] * 3)
    assert scores.dtype == torch.float32 and torch.equal(scores, wanted)
    assert torch.equal(small.score(PICTURES, ["mind"] * 3), -wanted)


def test_detail_is_large_and_plain_is_small():
    plain, some, noise = JpegReward("incompressibility").score(PICTURES, [""] * 3).tolist()
    assert plain < 1 < some < noise < 10


def test_values_outside_the_range_are_cut_off():
    reward = JpegReward("incompressibility")
    assert reward.score(PLAIN[None] + 9, [""]) == reward.score(torch.ones_like(PLAIN)[None], [""])


def test_what_is_not_finite_is_no_score():
    reward = JpegReward()
    scores = reward.score(torch.stack([PLAIN, PLAIN * torch.nan, PLAIN / 0]), [""] * 3)
    assert scores.isnan().tolist() == [False, True, True]
    assert reward.failures == ["2 of 3 images: it holds values that aren't finite numbers."]
    assert reward.score(PICTURES, [""] * 3).isfinite().all() and reward.failures == []


def test_wrong_input_is_refused():
    for arguments in (("smallness",), ("compressibility", 0), ("compressibility", 96)):
        with pytest.raises(ValueError, match="must be"):
            JpegReward(*arguments)
    with pytest.raises(ValueError, match="batch, height"):
        JpegReward().score(PICTURES.movedim(-1, 1), [""] * 3)
