"""MixGRPO_PickBest: which images, in which order, and what when none is good enough."""

import json

import numpy as np
import pytest
import torch

from tests.nodes.scoring.test_score import Failing, Red, greys

NAN = float("nan")
IMAGES = greys(0.5, 0.25, 0.75, 0.5)
SCORES = [0.5, 0.25, 0.75, 0.5]


@pytest.fixture
def pick(room):
    """`pick(images, ...)`: (images, indices, scores, json as data)."""

    def run(*images, top_k=1, threshold=None, if_none="take the best one", prompt=("",), per_line=False, **inputs):
        node = room("nodes.scoring.pick_best").MixGRPOPickBest
        kept, indices, scores, text = node.execute(
            list(images), [top_k], [threshold is not None], [threshold or 0.0], [if_none], list(prompt), [per_line],
            **inputs,
        ).result  # fmt: skip
        return kept, indices, scores, json.loads(text, parse_constant=pytest.fail)

    return run


@pytest.mark.parametrize("inputs", [{"reward": [Red()]}, {"scores": SCORES}, {"scores": [json.dumps(SCORES)]}])
def test_best_first_and_of_equal_ones_the_first(pick, inputs):
    kept, indices, scores, report = pick(IMAGES, top_k=3, **inputs)
    assert indices == [2, 0, 3] and scores == [0.75, 0.5, 0.5]
    assert len(kept) == 1 and torch.equal(kept[0], IMAGES[[2, 0, 3]])
    assert [(entry["image"], entry["score"], entry["rank"]) for entry in report["images"]] == [
        (2, 0.75, 1), (0, 0.5, 2), (3, 0.5, 3)
    ]  # fmt: skip
    assert all(type(value) is float for value in scores) and all(type(value) is int for value in indices)


def test_top_k_0_keeps_all_and_a_large_one_too(pick):
    for top_k in (0, 9):
        assert pick(IMAGES, top_k=top_k, scores=SCORES)[1] == [2, 0, 3, 1]


def test_the_threshold_itself_is_kept(pick):
    assert pick(IMAGES, top_k=0, threshold=0.5, scores=SCORES)[1] == [2, 0, 3]
    assert pick(IMAGES, top_k=2, threshold=0.5, scores=SCORES)[1] == [2, 0]


def test_nothing_above_the_threshold(pick):
    assert pick(IMAGES, top_k=0, threshold=0.8, scores=SCORES)[1:3] == ([2], [0.75])
    with pytest.raises(ValueError, match=r"No image reaches the threshold of 0\.8, the best has 0\.75"):
        pick(IMAGES, threshold=0.8, if_none="stop with an error", scores=SCORES)
    assert pick(IMAGES, threshold=0.7, if_none="stop with an error", scores=SCORES)[1] == [2]


def test_what_failed_is_never_picked(pick):
    scores = [NAN, -2.0, None, -3.0]
    assert pick(IMAGES, top_k=0, scores=scores)[1:3] == ([1, 3], [-2.0, -3.0])
    with pytest.raises(ValueError, match="None of the 4 images could be scored"):
        pick(IMAGES, scores=[NAN] * 4)
    with pytest.raises(ValueError, match="None of the 4 images could be scored"):
        pick(IMAGES, reward=[Failing()])


def test_images_of_several_sizes_come_one_by_one(pick):
    images = greys(0.1, 0.9), greys(0.5, size=16)
    kept, indices, _, _ = pick(*images, top_k=0, reward=[Red()])
    assert indices == [1, 2, 0] and [tuple(image.shape[:2]) for image in kept] == [(1, 8), (1, 16), (1, 8)]
    same, indices, _, _ = pick(*images, top_k=1, reward=[Red()])
    assert indices == [1] and same[0].shape == (1, 8, 8, 3)
    kept, indices, _, _ = pick(images[0], greys(0.95), top_k=2, reward=[Red()])
    assert indices == [2, 1] and len(kept) == 1 and kept[0].shape == (2, 8, 8, 3)


def test_it_takes_what_score_gives(room, pick):
    output = room("nodes.scoring.score").MixGRPOScore.execute([IMAGES], [Red()], ["a\nb\nc\nd"], [True]).result
    by_list, by_json = pick(IMAGES, top_k=2, scores=output[0]), pick(IMAGES, top_k=2, scores=[output[2]])
    assert by_list[1:3] == by_json[1:3] == ([2, 0], [0.75, 0.5])
    assert [entry["prompt"] for entry in by_json[3]["images"]] == ["c", "a"], "details stay with their image"


def test_the_reward_gets_the_prompts(pick):
    reward = Red()
    pick(IMAGES, reward=[reward], prompt=["one\ntwo\nthree\nfour"], per_line=True)
    assert reward.asked == [["one", "two", "three", "four"]]


def test_what_json_knows_no_number_for_is_a_failed_score(pick):
    huge = "1" + "0" * 400
    text = '{"extra": NaN, "images": [{"score": NaN}, {"score": Infinity}, {"score": 2}, {"score": HUGE}]}'
    _, indices, scores, report = pick(IMAGES, scores=[text.replace("HUGE", huge)], top_k=0)
    assert indices == [2] and scores == [2] and report["extra"] is None


@pytest.mark.parametrize(
    "scores",
    [
        list(np.array(SCORES, dtype=np.float32)),
        [torch.tensor(score) for score in SCORES],
        [np.array(SCORES)],
        [torch.tensor(SCORES, dtype=torch.bfloat16)[:, None]],
        [SCORES],
        [SCORES[:3], SCORES[3:]],
        [tuple(SCORES[:3]), torch.tensor(SCORES[3:], requires_grad=True)],
        [json.dumps([SCORES[:3], SCORES[3:]])],
    ],
)
def test_numbers_of_other_packs_are_taken_as_they_give_them(pick, scores):
    """Of numpy and torch, and one list for each batch."""
    batches = IMAGES[:3], IMAGES[3:]
    assert pick(*batches, top_k=3, scores=scores)[1:3] == ([2, 0, 3], [0.75, 0.5, 0.5])


def test_whole_numbers_and_what_failed_among_them(pick):
    assert pick(IMAGES, top_k=0, scores=[np.array([3, 1]), torch.tensor([NAN, 2.0])])[1:3] == ([0, 3, 1], [3, 2, 1])


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, "Neither reward nor scores is connected"),
        ({"reward": [Red()], "scores": SCORES}, "Both reward and scores are connected"),
        ({"scores": [0.1, 0.2]}, "There are 2 scores for 4 images"),
        ({"scores": ["not json"]}, "scores isn't JSON"),
        ({"scores": ["[" * 100_000]}, "scores isn't JSON"),
        ({"scores": ['{"mean": 1}']}, "neither a list of numbers nor"),
        ({"scores": ['{"images": [{"rank": 1}]}']}, "neither a list of numbers nor"),
        ({"scores": ['[1, 2, "3", 4]']}, "Score 2 is '3'"),
        ({"scores": ['[1, 2, true, 4]']}, "Score 2 is True"),
        ({"scores": ["1", "2", "3", "4"]}, "Score 0 is '1'"),
        ({"scores": [np.array([True, False, True, True])]}, "Score 0 is True"),
        ({"scores": [SCORES, SCORES]}, "There are 8 scores for 4 images"),
        ({"scores": [[[[[SCORES]]]]]}, r"Score 0 is \[\["),
        ({"scores": [{"a": 1}]}, "Score 0 is {'a': 1}"),
    ],
)  # fmt: skip
def test_what_can_not_be_used_is_one_sentence(pick, inputs, words):
    with pytest.raises(ValueError, match=words):
        pick(IMAGES, **inputs)
