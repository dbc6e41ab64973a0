"""Rewards that see what an image was made from, beside those that needn't know of it."""

import pytest
import torch

from mixgrpo_engine.rewards import checked_scores, strict_scores
from mixgrpo_engine.rewards.mix import mix
from mixgrpo_engine.rewards.references import References, check_references
from mixgrpo_engine.rewards.scoring import score_by_each, score_images


class Kept:
    """Minus the difference to the source's brightness."""

    name, uses_references, needed_references = "kept", True, ("image",)

    def score(self, images, prompts, references):
        sources = torch.stack([each.images["image"].mean() for each in references])
        return -(images.mean((1, 2, 3)) - sources).abs()

    def strict(self, images, prompts, references):
        return (self.score(images, prompts, references) == 0).float()


class Curious:
    """Takes what there is: the number of columns."""

    name, uses_references = "curious", True

    def score(self, images, prompts, references):
        return torch.tensor([float(len(each.columns)) for each in references])


class Plain:
    name = "plain"

    def score(self, images, prompts):
        return images.mean((1, 2, 3))


def grey(*levels, size=4):
    return torch.tensor(levels)[:, None, None, None].expand(-1, size, size, 3)


def of(*levels):
    return [References({"image": torch.full((8, 8, 3), level)}, {"kind": "grey"}) for level in levels]


def test_only_those_that_use_them_get_references():
    images, prompts = grey(0.5, 0.75), ["a", "b"]
    rewards = {reward.name: reward for reward in (Kept(), Curious(), Plain())}
    values = score_by_each(rewards, images, prompts, references=of(0.25, 0.75)).values
    assert {name: each.tolist() for name, each in values.items()} == {
        "kept": [-0.25, 0],
        "curious": [1, 1],
        "plain": [0.5, 0.75],
    }
    assert strict_scores(Kept(), images, prompts, of(0.25, 0.75)).tolist() == [0, 1]
    assert strict_scores(Plain(), images, prompts) is None


def test_without_items_the_curious_gets_empty_ones_and_who_needs_them_is_refused():
    assert checked_scores(Curious(), grey(0.5), ["a"]).tolist() == [0]
    for reward in (Kept(), mix([(Plain(), 1), (Kept(), 1)])):
        with pytest.raises(ValueError, match=f"'{reward.name}' compares with the picture 'image'.*prompts only"):
            checked_scores(reward, grey(0.5), ["a"])
    with pytest.raises(ValueError, match="'kept' compares .* an item has none"):
        check_references(Kept(), [*of(0.5), References()])
    check_references(Plain(), None)
    check_references(Kept(), of(0.5))


def test_one_reference_an_image():
    with pytest.raises(ValueError, match="2 images, but 1 references"):
        checked_scores(Kept(), grey(0.5, 0.5), ["a", "b"], of(0.5))


def test_a_mix_and_images_of_several_sizes_keep_their_own():
    reward = mix([(mix([(Kept(), 1)]), 1), (Plain(), 1)])
    scored = score_images(reward, [grey(0.5), grey(0.5, size=8), grey(0.25)], ["", "", ""], of(0.5, 0.25, 0.25))
    assert scored.parts["kept"].tolist() == [0, -0.25, 0]
    assert checked_scores(reward, grey(0.5), ["a"], of(0.25)).tolist() == [0.125]
    assert not mix([(Plain(), 1)]).uses_references
