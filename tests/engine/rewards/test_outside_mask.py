"""What an edit changes outside its mask."""

import pytest
import torch

from mixgrpo_engine.rewards import checked_scores
from mixgrpo_engine.rewards.outside_mask import OutsideMaskReward
from mixgrpo_engine.rewards.references import References

LEFT = torch.zeros(8, 8)
LEFT[..., :4] = 1  # may change


def image(left, right, size=8):
    made = torch.full((1, size, size, 3), float(left))
    made[:, :, size // 2 :] = right
    return made


def of(source, mask=LEFT):
    return References({"image": source[0], "mask": mask})


def score(images, *references):
    reward = OutsideMaskReward()
    return checked_scores(reward, images, ["a"] * len(images), list(references)), reward.failures


def test_only_what_lies_outside_the_mask_counts():
    source = of(image(0.5, 0.5))
    scores, failures = score(torch.cat([image(1, 0.5), image(0.5, 0.75), image(0, 1)]), source, source, source)
    assert scores.tolist() == pytest.approx([1, 0.75, 0.5]) and failures == []


def test_the_worst_is_0_and_a_soft_mask_weighs():
    half = torch.full((8, 8), 0.5)
    half[..., 4:] = 0
    # Outside weighs 1/2 on the left and 1 on the right: a full difference on the left is a third of all.
    scores, _ = score(torch.cat([image(1, 1), image(1, 0)]), of(image(0, 0)), of(image(0, 0), half))
    assert scores.tolist() == pytest.approx([0, 2 / 3])


def test_source_and_mask_of_another_size_are_brought_to_the_images():
    large = torch.zeros(32, 32)
    large[..., :16] = 1
    scores, _ = score(image(1, 0.5), of(image(0.5, 0.5, size=64), large))
    assert scores.item() == pytest.approx(1, abs=0.02)


def test_what_cannot_be_compared_has_no_score_and_a_reason():
    broken = image(0, 0)
    broken[0, 0, 0, 0] = torch.nan
    wide = image(0.5, 0.5)[:, :4]
    scores, failures = score(
        torch.cat([image(0, 0)] * 3 + [broken]),
        of(image(0, 0), torch.ones(8, 8)),
        of(wide),
        of(broken),
        of(image(0, 0)),
    )
    assert scores.isnan().all()
    assert any("lets everything change" in failure for failure in failures)
    assert any("8 x 8 pixels and its source 8 x 4: another shape" in failure for failure in failures)
    assert any(failure.startswith("2 of 4 images: it holds values that aren't finite") for failure in failures)


def test_it_needs_picture_and_mask():
    with pytest.raises(ValueError, match="'outside_mask' compares with the picture 'mask' .* an item has none"):
        score(image(0, 0), References({"image": torch.zeros(8, 8, 3)}))
