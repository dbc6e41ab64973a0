"""Scores of many images, of one size and of several."""

import pytest
import torch

from mixgrpo_engine.rewards.mix import mix
from mixgrpo_engine.rewards.scoring import combine, ranking, score_images

NAN = float("nan")


class Mean:
    """Mean of one colour, NaN for images with the prompt "unknown"."""

    def __init__(self, channel, name):
        self.channel, self.name, self.calls = channel, name, []

    def score(self, images, prompts):
        self.calls.append((tuple(images.shape), list(prompts)))
        scores = images[..., self.channel].mean((1, 2))
        scores[[prompt == "unknown" for prompt in prompts]] = NAN
        return scores


def grey(value, size=8, count=1):
    return torch.full((count, size, size, 3), value)


def test_each_size_is_one_call_and_the_order_stays():
    red = Mean(0, "red")
    batches = [grey(0.1), grey(0.2, 16, 2), grey(0.3), grey(0.4, 16)]
    scored = score_images(red, batches, ["a", "b", "c", "d", "e"])
    assert torch.allclose(scored.total, torch.tensor([0.1, 0.2, 0.2, 0.3, 0.4]))
    assert red.calls == [((2, 8, 8, 3), ["a", "d"]), ((3, 16, 16, 3), ["b", "c", "e"])]
    assert list(scored.parts) == ["red"] and scored.shares == {"red": 1.0} and scored.name == "red"


def test_a_mix_keeps_its_parts_and_normalises_over_all_sizes():
    red, blue = Mean(0, "red"), Mean(2, "blue")
    scored = score_images(mix([(red, 3), (blue, 1)], "batch"), [grey(0.0), grey(1.0, 16)], ["", ""])
    assert scored.total.tolist() == pytest.approx([-1.0, 1.0])  # each size by itself would be 0
    assert scored.parts["blue"].tolist() == [0.0, 1.0] and scored.shares == {"red": 0.75, "blue": 0.25}


def test_failures_are_nan_with_a_reason():
    red = Mean(0, "red")
    scored = score_images(red, [grey(0.5, count=3)], ["a", "unknown", "b"])
    assert scored.total.isnan().tolist() == [False, True, False]
    assert scored.reasons == ("red: no score for 1 of 3 images, and no reason given.",)
    red.failures = ["It was dark.", "It was dark."]
    assert score_images(red, [grey(0.5)], ["unknown"]).reasons == ("red: It was dark.",)
    assert score_images(mix([(red, 1)]), [grey(0.5)], ["unknown"]).reasons == ("red: It was dark.",)


def test_what_scorers_remark_is_kept_beside_what_failed():
    red = Mean(0, "red")
    red.remarks = ["These are guesses."]
    for reward in (red, mix([(Mean(2, "blue"), 1), (red, 1)])):
        scored = score_images(reward, [grey(0.5), grey(0.5, 16)], ["", "unknown"])
        assert scored.remarks == ("red: These are guesses.",)
        assert scored.reasons[-1] == "red: no score for 1 of 2 images, and no reason given.", "a remark is no reason"
        red.remarks, before = [], red.remarks
        assert score_images(reward, [grey(0.5)], [""]).remarks == ()
        red.remarks = before


def test_an_image_that_is_not_finite_has_no_score():
    class Blind:
        name = "blind"

        def score(self, images, prompts):
            return [1.0] * len(images)

    images = grey(0.5, count=2)
    images[0, 0, 0, 0] = NAN
    assert score_images(Blind(), [images], ["", ""]).total.isnan().tolist() == [True, False]


def test_combine_of_what_was_kept_is_the_total():
    both = mix([(Mean(0, "red"), 1), (Mean(1, "green"), 1)], "batch")
    scored = score_images(both, [torch.rand(5, 4, 4, 3)], [""] * 5)
    assert torch.equal(combine(both, scored.parts), scored.total)
    assert combine(Mean(0, "red"), {"red": torch.ones(2)}).tolist() == [1.0, 1.0]


def test_ranking_is_best_first_and_leaves_failures_out():
    assert ranking(torch.tensor([0.5, NAN, 0.9, 0.5, -1.0])) == [2, 0, 3, 4]
    assert ranking(torch.tensor([NAN])) == []


@pytest.mark.parametrize(
    ("reward", "batches", "prompts", "words"),
    [
        (object(), [grey(0.1)], [""], "A object is no reward"),
        (Mean(0, "red"), [grey(0.1)], ["", ""], "1 images, but 2 prompts"),
        (Mean(0, "red"), [grey(0.1)[..., :2]], [""], r"must be \(batch, height, width, 3\)"),
    ],
)
def test_what_can_not_be_scored_is_one_sentence(reward, batches, prompts, words):
    with pytest.raises(ValueError, match=words):
        score_images(reward, batches, prompts)
