"""Win rates inside a group, from a judge that sees two pictures at a time."""

from collections import Counter
from dataclasses import replace
from itertools import combinations

import pytest
import torch
from aiohttp import web

from mixgrpo_engine.rewards import checked_scores, remarks
from mixgrpo_engine.rewards.judge.pair_questions import PAIR_PRESETS
from mixgrpo_engine.rewards.judge.pairwise import PairwiseJudgeReward, PairwiseOptions, pairings
from mixgrpo_engine.rewards.references import References
from mixgrpo_engine.rewards.remote.client import ClientOptions
from tests.engine.rewards.judge.judges import FAR, always, grays
from tests.fake_judge import brightness, chat


def made(server, calls=0, question="better", **client):
    options = PairwiseOptions((server.url,), "vlm", image_format="png", calls=calls, question=PAIR_PRESETS[question])
    return PairwiseJudgeReward(options, ClientOptions(**{**FAR, **client}))


def score(reward, *levels):
    return reward.score(grays(*levels), ["a cat"] * len(levels))


async def brighter(call):
    first, second = map(brightness, call.images[-2:])
    better = "Image 1 is better." if first > second else "Image 2 is better."
    return chat(better if first != second else "Both images are equally good.")


# --- which images meet ---


@pytest.mark.parametrize("count", [2, 3, 4, 7, 12])
def test_all_with_all_is_each_pair_once(count):
    assert sorted(pairings(count)) == list(combinations(range(count), 2))


@pytest.mark.parametrize(
    "count, calls, met", [(4, 4, 1), (4, 11, 2), (12, 12, 1), (12, 60, 5), (7, 36, 5), (7, 12, 1), (5, 8, 1)]
)
def test_within_the_budget_all_meet_equally_often_of_an_odd_count_some_once_more(count, calls, met):
    pairs = pairings(count, calls)
    assert len(set(pairs)) == len(pairs) and 2 * len(pairs) <= calls
    seen = Counter(place for pair in pairs for place in pair)
    assert set(seen) == set(range(count)) and set(seen.values()) == {met, met + count % 2}


def test_a_budget_that_leaves_an_image_out_is_one_sentence(serve):
    server = serve(brighter)
    with pytest.raises(ValueError, match="calls is 3: to compare each of 4 images once, in both orders, takes 4"):
        score(made(server, calls=3), 1, 2, 3, 4)
    with pytest.raises(ValueError, match="calls is 10: .* 7 images once.* takes 12"):
        pairings(7, 10)
    with pytest.raises(ValueError, match="calls is -1"):
        made(server, calls=-1)
    assert not server.calls


# --- what is counted ---


def test_win_rates_of_all_with_all(serve):
    server = serve(brighter)
    scores = score(made(server), 30, 10, 20, 20)
    assert scores.dtype == torch.float32
    assert scores.tolist() == pytest.approx([1, 0, 0.5, 0.5])
    assert len(server.calls) == 12
    assert Counter(tuple(map(brightness, call.images)) for call in server.calls)[30.0, 10.0] == 1
    assert "Text Caption: [a cat]" in server.calls[0].text


def test_win_rates_do_not_drift_with_the_judges_scale(serve):
    """Scores that lie ever closer together give the same win rates."""
    reward = made(serve(brighter))
    assert score(reward, 100, 101, 102).tolist() == score(reward, 0, 100, 250).tolist() == [0, 0.5, 1]


def test_a_judge_that_likes_a_place_gains_nobody_anything(serve):
    reward = made(serve(always(lambda: chat("Image 1 is better."))))
    assert score(reward, 10, 20, 30).tolist() == [0.5, 0.5, 0.5]
    assert "chose by the place in 3 of 3 comparisons" in remarks(reward)[0]

    async def half_biased(call):
        # It sees large differences, and takes the first one otherwise.
        first, second = map(brightness, call.images)
        return chat("Image 2 is better." if second - first > 50 else "Image 1 is better.")

    reward = made(serve(half_biased))
    assert score(reward, 10, 20, 200).tolist() == [0.25, 0.25, 1] and remarks(reward) == []


def test_shares_count_as_they_are(serve):
    async def shares(call):
        first, second = map(brightness, call.images)
        return chat(f"Alignment Score:\n Image 1: {first / (first + second)}\n Image 2: {second / (first + second)}")

    assert score(made(serve(shares), question="semantic"), 30, 10).tolist() == pytest.approx([0.75, 0.25])


def test_a_pair_with_one_order_unanswered_counts_for_nobody(serve):
    async def respond(call):
        first, second = map(brightness, call.images)
        return web.Response(status=400, text="Too dark.") if (first, second) == (10, 20) else await brighter(call)

    reward = made(serve(respond))
    assert score(reward, 10, 20, 30).tolist() == [0, 0, 1]
    assert reward.failures == [] and "1 of 3 comparisons had no answer" in remarks(reward)[0]
    assert "Too dark." in remarks(reward)[0]


def test_an_image_without_any_comparison_has_no_score(serve):
    async def respond(call):
        return chat("I won't say.") if 10 in map(brightness, call.images) else await brighter(call)

    reward = made(serve(respond))
    scores = score(reward, 10, 20, 30)
    assert scores[0].isnan() and scores[1:].tolist() == [0, 1]
    assert reward.failures[0].startswith("1 of 3 images: no comparison with it was answered: the judge's answer")


def test_what_cannot_be_compared_is_not_asked(serve):
    server = serve(brighter)
    reward = made(server)
    images = torch.cat([grays(1), torch.full((1, 8, 8, 3), torch.nan)])
    assert reward.score(images, ["a", "a"]).isnan().all()
    assert any("no other image" in failure for failure in reward.failures)
    assert reward.score(grays(1, 2), ["a", "b"]).isnan().all() and "several prompts" in reward.failures[0]
    assert reward.score(grays(1)[:0], []).shape == (0,) and reward.failures == []
    assert not server.calls


def test_edits_are_compared_beside_their_source(serve):
    server = serve(brighter)
    reward = made(server, question="edit")
    source = References({"image": torch.full((4, 4, 3), 1.0)})
    assert checked_scores(reward, grays(10, 20), ["brighter"] * 2, [source] * 2).tolist() == [0, 1]
    assert brightness(server.calls[0].images[0]) == 255 and len(server.calls[0].images) == 3
    another = References({"image": torch.zeros(4, 4, 3)})
    assert checked_scores(reward, grays(10, 20), ["brighter"] * 2, [source, another]).isnan().all()
    assert "several prompts or sources" in reward.failures[0] and len(server.calls) == 2
    with pytest.raises(ValueError, match="'pairwise_judge' compares with the picture 'image'"):
        checked_scores(reward, grays(10, 20), ["brighter"] * 2)


def test_its_own_question(serve):
    server = serve(brighter)
    reward = made(server)
    reward.options = replace(reward.options, question=replace(PAIR_PRESETS["better"], text="Which {prompt}?"))
    score(reward, 1, 2)
    assert {call.text for call in server.calls} == {"Which a cat?"}
