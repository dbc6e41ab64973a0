"""Several scorers as one: weights, normalisation, mixes of mixes, and scorers that fail."""

import numpy as np
import pytest
import torch

from mixgrpo_engine.advantage import group_advantages
from mixgrpo_engine.rewards.mix import RewardMix, mix, parts

IMAGES, PROMPTS = torch.rand(4, 8, 8, 3, generator=torch.Generator().manual_seed(0)), ["a", "b", "c", "d"]
NAN = float("nan")


class Judge:
    """Gives what it is told to."""

    def __init__(self, name, scores, reasons=()):
        self.name, self.scores, self.failures = name, scores, list(reasons)
        self.asked = []

    def score(self, images, prompts):
        self.asked.append((images, prompts))
        return self.scores


ONE, OTHER = Judge("one", [0.0, 1.0, 2.0, 3.0]), Judge("other", torch.tensor([40.0, 10.0, 20.0, 30.0]))


def test_the_score_is_the_weighted_mean():
    both = mix([(ONE, 3.0), (OTHER, 1.0)])
    assert torch.allclose(both.score(IMAGES, PROMPTS), torch.tensor([10.0, 3.25, 6.5, 9.75]))
    assert both.score(IMAGES, PROMPTS).dtype == torch.float32
    assert OTHER.asked[-1][0] is IMAGES and OTHER.asked[-1][1] == PROMPTS
    assert {name: values.tolist() for name, values in both.score_parts(IMAGES, PROMPTS).items()} == {
        "one": [0.0, 1.0, 2.0, 3.0],
        "other": [40.0, 10.0, 20.0, 30.0],
    }


def test_only_the_weights_proportions_count():
    assert torch.allclose(
        mix([(ONE, 0.5), (OTHER, 0.25)]).score(IMAGES, PROMPTS), mix([(ONE, 200), (OTHER, 100)]).score(IMAGES, PROMPTS)
    )


def test_batch_normalisation_makes_scales_count_alike():
    scaled = Judge("scaled", OTHER.scores * 1e-9 + 1e-8)
    expected = [(x + y) / 2 for x, y in zip([-3, -1, 1, 3], [3, -3, -1, 1], strict=True)]
    for judge in (OTHER, scaled):
        both = mix([(ONE, 1), (judge, 1)], "batch").score(IMAGES, PROMPTS)
        assert torch.allclose(both, torch.tensor(expected) / 5**0.5, atol=1e-5)


def test_batch_normalisation_of_equal_scores_is_0_not_noise():
    third = Judge("third", torch.tensor([0.1] * 4) + torch.tensor([0.0, 7e-9, 0.0, 0.0]))
    assert mix([(third, 1)], "batch").score(IMAGES, PROMPTS).tolist() == [0.0] * 4
    assert mix([(Judge("zero", [0.0] * 4), 1)], "batch").score(IMAGES, PROMPTS).tolist() == [0.0] * 4


def test_a_failed_score_is_nan_in_the_total_and_enters_no_statistics():
    broken = Judge("broken", [1.0, NAN, 3.0, float("inf")], ["The lamp went out."])
    for normalisation, expected in (("none", [0.5, NAN, 2.5, NAN]), ("batch", [None, NAN, None, NAN])):
        both = mix([(ONE, 1), (broken, 1)], normalisation)
        scores = both.score(IMAGES, PROMPTS)
        assert scores.isnan().tolist() == [False, True, False, True]
        if expected[0] is not None:
            assert scores[[0, 2]].tolist() == [0.5, 2.5]
        assert both.failures == ["broken: The lamp went out."]
    alone = mix([(broken, 1)], "batch").score(IMAGES, PROMPTS)
    assert alone[[0, 2]].tolist() == [-1.0, 1.0]


def test_a_weight_of_0_only_watches():
    broken = Judge("broken", [NAN] * 4)
    watched = mix([(ONE, 2), (broken, 0)])
    assert watched.score(IMAGES, PROMPTS).tolist() == ONE.scores
    assert watched.score_parts(IMAGES, PROMPTS)["broken"].isnan().all()
    scorers, weights = parts(watched)
    scores = watched.score_parts(IMAGES, PROMPTS)
    assert list(scorers) == ["one", "broken"]
    assert torch.equal(group_advantages(scores, 4, weights), group_advantages({"one": scores["one"]}, 4))


def test_a_mix_in_a_mix_shares_its_weight():
    inner = mix([(ONE, 1), (OTHER, 3)], "batch")
    scorers, weights = parts(mix([(inner, 2), (Judge("third", [0.0] * 4), 6)]))
    assert list(scorers) == ["one", "other", "third"] and scorers["one"] is ONE
    assert weights == {"one": 0.5, "other": 1.5, "third": 6.0}


def test_the_same_name_is_told_apart_by_a_number():
    twins = [Judge("one", [1.0] * 4), Judge("one", [2.0] * 4)]
    both = mix([(ONE, 1), (mix([(twins[0], 1), (twins[1], 1)]), 1)])
    assert list(both.rewards) == ["one", "one 2", "one 3"]
    assert list(both.rewards.values()) == [ONE, *twins]
    named = RewardMix({"day": ONE, "night": twins[0]}, {"day": 1.0, "night": 1.0})
    assert list(mix([(named, 1), (ONE, 1)]).rewards) == ["day", "night", "one"]


def test_a_single_scorer_is_its_own_only_part():
    assert parts(ONE) == ({"one": ONE}, {"one": 1.0})


@pytest.mark.parametrize(
    "scores", [np.arange(4.0), torch.arange(4), [0, 1, 2, 3], torch.arange(4.0, requires_grad=True)]
)
def test_any_row_of_numbers_will_do(scores):
    total = mix([(Judge("judge", scores), 1)]).score(IMAGES, PROMPTS)
    assert total.tolist() == [0.0, 1.0, 2.0, 3.0] and not total.requires_grad


@pytest.mark.parametrize("scores", [torch.tensor(1.0), [1.0] * 3, torch.ones(4, 1)])
def test_a_wrong_number_of_scores_is_one_sentence(scores):
    with pytest.raises(ValueError, match="reward 'judge' gave .* scores for 4 images: it must give one an image"):
        mix([(Judge("judge", scores), 1)]).score(IMAGES, PROMPTS)


@pytest.mark.parametrize("scores", [None, ["good", "bad", "good", "good"], [None] * 4, {"a": 1}])
def test_what_is_no_row_of_numbers_is_one_sentence(scores):
    with pytest.raises(ValueError, match="reward 'judge' gave a .* that isn't a row of numbers"):
        mix([(Judge("judge", scores), 1)]).score(IMAGES, PROMPTS)


@pytest.mark.parametrize(
    ("entries", "normalisation", "words"),
    [
        ([], "none", "at least one reward"),
        ([(ONE, -1)], "none", "none may be below 0"),
        ([(ONE, 0), (OTHER, 0)], "none", "one must be above it"),
        ([(ONE, NAN)], "none", "none may be below 0"),
        ([(ONE, float("inf"))], "none", "one must be above it"),
        ([(ONE, 1)], "rank", "normalisation is 'rank'"),
        ([("a text", 1)], "none", "A str is no reward"),
    ],
)
def test_what_makes_no_mix_is_one_sentence(entries, normalisation, words):
    with pytest.raises(ValueError, match=words):
        mix(entries, normalisation)


def test_every_reward_needs_a_weight():
    with pytest.raises(ValueError, match="one weight for each"):
        RewardMix({"one": ONE}, {"other": 1.0})
