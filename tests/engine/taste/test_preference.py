"""A preference model learned from choices: known weights come back, and what it says of its own accuracy is true."""

import pytest
import torch

from mixgrpo_engine.taste import preference
from mixgrpo_engine.taste.preference import Preference, choices, cross_validated, fit, in_words

BLOCKS = {"few": 3, "many": 40}
TRUE = torch.zeros(43, dtype=torch.float64)
TRUE[:3] = torch.tensor([2.0, -1.0, 0.0])


def votes(count, seed=0, wrong=0.0, taste=TRUE):
    """(features, choices): sheets of four with the best and the worst picked, two sheets a prompt."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(count * 4, 43, generator=generator, dtype=torch.float64) * 3 + 5
    voted = []
    for sheet in range(count):
        rows = list(range(4 * sheet, 4 * sheet + 4))
        order = (features[rows] @ taste).argsort(descending=True).tolist()
        if torch.rand((), generator=generator) < wrong:
            order.reverse()
        voted.append((f"prompt {sheet // 2}", rows, ((order[0],), (order[1], order[2]), (order[3],))))
    return features, choices(voted)


def right(model, seed=99):
    features, unseen = votes(200, seed)
    scores = model.score(features)
    return float((scores[unseen.better] > scores[unseen.worse]).float().mean())


def test_a_taste_is_found_among_many_features():
    features, chosen = votes(80)
    model = fit(features, BLOCKS, chosen)
    mean = model.weights.mean(0) * model.scale
    assert torch.nn.functional.cosine_similarity(mean, TRUE, dim=0) > 0.95
    assert right(model) > 0.95 and chosen.votes == 80


def _and(drawn):
    features, chosen = drawn
    return features, BLOCKS, chosen


def test_what_the_voter_does_not_look_at_weighs_little():
    """Which block it is, the votes tell."""
    for block, others in (("few", slice(3, None)), ("many", slice(0, 3))):
        taste = torch.ones(43, dtype=torch.float64)
        taste[others] = 0
        features, chosen = votes(40, wrong=0.1, taste=taste)
        model = fit(features, BLOCKS, chosen)
        spread = (model.weights.mean(0) * model.scale * features.std(0)).square()
        seen = float(spread[taste > 0].sum() / spread.sum())
        assert seen > 0.97, block


def test_pairs_of_a_sheet_count_as_its_images_less_one():
    said = choices([("a", [0, 1, 2, 3], ((2,), (0, 3), (1,))), ("b", [4, 5], ((1,), (0,))), ("c", [6, 7], ((0, 1),))])
    assert said.times.tolist() == pytest.approx([3 / 5] * 5 + [1]) and said.votes == 2


@pytest.mark.parametrize("sheets", [6, 40])  # fewer differences than features, and more
def test_weights_are_the_most_likely_and_the_evidence_is_laplaces(sheets):
    features, chosen = votes(sheets, wrong=0.2)
    scaled = features / 3

    def minus_log(weights):
        gaps = (scaled[chosen.better] - scaled[chosen.worse]) @ weights
        likely = (chosen.times * torch.nn.functional.logsigmoid(gaps)).sum()
        return preference.PENALTY * weights.square().sum() / 2 - likely

    weights, evidence = preference._maximum(scaled, chosen)
    slope = torch.func.grad(minus_log)(weights)
    torch.testing.assert_close(slope, torch.zeros_like(slope), atol=1e-9, rtol=0)
    curvature = torch.func.hessian(minus_log)(weights) / preference.PENALTY
    assert evidence == pytest.approx(float(-minus_log(weights) - torch.logdet(curvature) / 2), abs=1e-6)
    again, _ = preference._maximum(scaled, chosen, weights + 0.5)
    torch.testing.assert_close(again, weights)


def test_nobody_is_chosen_by_a_feature_that_does_not_differ():
    features, chosen = votes(40)
    features[:, 5] = 7.0
    model = fit(features, BLOCKS, chosen)
    assert model.scale[5] == 0 and model.weights.isfinite().all()


@pytest.mark.parametrize("wrong", [0.0, 0.3])
def test_its_own_accuracy_is_what_new_votes_get(wrong):
    """Against votes with the same share of wrong ones; one set's estimate has a standard deviation of about .04."""
    errors, inside = [], 0
    for seed in range(8):
        features, chosen = votes(160, seed, wrong)
        told = cross_validated(features, BLOCKS, chosen)
        scores = fit(features, BLOCKS, chosen)
        fresh, unseen = votes(400, 100 + seed, wrong)
        scores = scores.score(fresh)
        true = float((scores[unseen.better] > scores[unseen.worse]).float().mean())
        errors.append(told["mean"] - true)
        inside += told["low"] < true < told["high"]
    assert abs(sum(errors) / len(errors)) < 0.03 and inside >= 7


def test_chance_is_told_as_chance():
    features, chosen = votes(30, wrong=0.5)
    told = cross_validated(features, BLOCKS, chosen)
    assert told["low"] < 0.5 and "hardly better than chance" in in_words(30, told)
    assert cross_validated(*_and(votes(2))) is None, "one prompt can't be held out"
    assert in_words(2, None) == "2 votes: too few to say how well they are understood. Vote on more prompts."
    told = {"mean": 0.78, "low": 0.7, "high": 0.85}
    assert in_words(30, told) == "30 votes, right on 78% (70 to 85) of votes it hasn't seen; 10 more would help."


def test_doubt_is_larger_where_nothing_was_voted_on_and_distance_tells():
    features, chosen = votes(40)
    model = fit(features, BLOCKS, chosen)
    near, far = features[:20], features[:20] + 60
    assert model.distance(near).mean() == pytest.approx(1, abs=0.1) and model.distance(far).min() > preference.FAR
    fewer = fit(*_and(votes(10)))
    assert fewer.doubt(near).mean() > model.doubt(near).mean()


def test_it_is_saved_without_pickle_and_comes_back(tmp_path):
    features, chosen = votes(20)
    model = fit(features, BLOCKS, chosen)
    model.accuracy = cross_validated(features, BLOCKS, chosen)
    model.save(tmp_path / "taste.safetensors")
    back = Preference.load(tmp_path / "taste.safetensors")
    assert torch.equal(back.score(features), model.score(features))
    assert (back.blocks, back.votes, back.accuracy) == (BLOCKS, 20, model.accuracy)
    assert back.highest == model.highest == model.score(features).max()
    (tmp_path / "other.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="is no learned taste"):
        Preference.load(tmp_path / "other.safetensors")


def test_no_vote_is_no_taste():
    with pytest.raises(ValueError, match="no vote to learn from yet"):
        fit(torch.randn(4, 43), BLOCKS, choices([("a", [0, 1, 2, 3], ((0, 1, 2, 3),))]))


def test_the_same_votes_give_the_same_taste():
    one, other = (fit(*_and(votes(20))) for _ in range(2))
    assert torch.equal(one.weights, other.weights)
