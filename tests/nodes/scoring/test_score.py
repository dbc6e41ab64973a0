"""MixGRPO_Score: numbers, JSON and table of images, with failures told and nothing rounded."""

import json
import math

import pytest
import torch

NAN = float("nan")


class Red:
    """Mean of the red channel; NaN where the prompt is "unknown"."""

    name = "red"

    def __init__(self):
        self.asked = []

    def score(self, images, prompts):
        self.asked.append(list(prompts))
        scores = images[..., 0].mean((1, 2))
        return torch.where(torch.tensor([prompt == "unknown" for prompt in prompts]), NAN, scores)


class Failing(Red):
    name = "failing"
    failures = ["The lamp went out."]

    def score(self, images, prompts):
        return [NAN] * len(images)


def greys(*values, size=8, channels=3):
    return torch.stack([torch.full((size, size, channels), value) for value in values])


@pytest.fixture
def score(room):
    """`score(images, ...)`: (scores, mean, json as data, table, images, ui)."""

    def run(*images, reward=None, prompt=("a prompt",), per_line=False, **more):
        node = room("nodes.scoring.score").MixGRPOScore
        output = node.execute(list(images), [reward or Red()], list(prompt), [per_line], **more)
        scores, mean, text, table, passed = output.result
        return scores, mean, json.loads(text, parse_constant=pytest.fail), table, passed, output.ui

    return run


def test_every_image_has_its_score_unrounded(score):
    values = [0.123456789, 0.987654321, 0.5]
    images = greys(*values)
    scores, mean, report, _, passed, ui = score(images)
    exact = [float(image[..., 0].mean()) for image in images]
    assert scores == exact and all(type(value) is float for value in scores)
    assert mean == pytest.approx(sum(exact) / 3) and type(mean) is float
    assert [entry["score"] for entry in report["images"]] == exact
    assert [entry["rank"] for entry in report["images"]] == [3, 1, 2]
    assert report["mean"] == mean and (report["scored"], report["failed"]) == (3, 0)
    assert len(passed) == 1 and passed[0] is images
    assert ui["scores"] == exact and len(ui["text"]) == 1


def test_one_prompt_goes_to_all_images_even_with_many_lines(score):
    reward = Red()
    _, _, report, _, _, _ = score(greys(0.1, 0.2), reward=reward, prompt=["first line\nsecond line"])
    assert reward.asked == [["first line\nsecond line"] * 2]
    assert report["images"][1]["prompt"] == "first line\nsecond line"


def test_a_prompt_per_line(score):
    reward = Red()
    score(greys(0.1, 0.2), greys(0.3), reward=reward, prompt=["one\n\n  two \nthree"], per_line=True)
    assert reward.asked == [["one", "two", "three"]]
    with pytest.raises(ValueError, match="prompt has 2 lines and there are 3 images"):
        score(greys(0.1, 0.2, 0.3), prompt=["one\ntwo"], per_line=True)


def test_a_list_of_prompts_is_one_a_batch_or_one_an_image(score):
    reward = Red()
    score(greys(0.1, 0.2), greys(0.3), reward=reward, prompt=["one", "two"])
    score(greys(0.1, 0.2), greys(0.3), reward=reward, prompt=["one", "two", "three"])
    assert reward.asked == [["one", "one", "two"], ["one", "two", "three"]]
    with pytest.raises(ValueError, match="prompt is a list of 4 and there are 3 images in 2 batches"):
        score(greys(0.1, 0.2), greys(0.3), prompt=["a", "b", "c", "d"])


def test_images_of_several_sizes_keep_their_order(score):
    scores, _, _, _, passed, _ = score(greys(0.5, size=8), greys(0.25, size=16), greys(0.75, size=8))
    assert scores == [0.5, 0.25, 0.75] and [len(image[0]) for image in passed] == [8, 16, 8]


def test_alpha_is_left_out(score):
    scores, _, _, _, passed, _ = score(greys(0.5, channels=4))
    assert scores == [0.5] and passed[0].shape[-1] == 4


def test_a_failed_score_is_told_and_never_counted(score):
    scores, mean, report, table, _, ui = score(greys(0.25, 0.5, 0.75), prompt=["a", "unknown", "b"])
    assert scores[0] == 0.25 and math.isnan(scores[1]) and scores[2] == 0.75
    assert mean == 0.5 and report["mean"] == 0.5 and (report["scored"], report["failed"]) == (2, 1)
    assert report["images"][1] == {
        "image": 1, "prompt": "unknown", "score": None, "rank": None, "parts": {"red": None}
    }  # fmt: skip
    assert ui["scores"] == [0.25, None, 0.75]
    lines = table.splitlines()
    assert lines[3].split()[:3] == ["-", "1", "-"], "the failed one comes last"
    assert "mean 0.5000 of 2 images; 1 could not be scored and is left out" in lines
    assert lines[-1] == "red: no score for 1 of 3 images, and no reason given."


def test_when_all_fail_the_reason_is_there(score):
    scores, mean, report, table, _, ui = score(greys(0.1, 0.2), reward=Failing())
    assert all(map(math.isnan, [*scores, mean])) and report["mean"] is None
    assert report["reasons"] == ["failing: The lamp went out."] and table.endswith("failing: The lamp went out.")
    json.dumps(ui, allow_nan=False)


def test_what_a_scorer_remarks_is_shown(room, score):
    reward = Red()
    reward.remarks = ["These are guesses."]
    for given in (reward, room("mixgrpo_engine.rewards.mix").mix([(reward, 1)])):
        _, _, report, table, _, _ = score(greys(0.25), reward=given)
        assert report["remarks"] == ["red: These are guesses."] and report["reasons"] == []
        assert table.splitlines()[-1] == "red: These are guesses."


def test_a_mix_shows_its_parts(room, score):
    mix = room("mixgrpo_engine.rewards.mix").mix([(Red(), 3), (Failing(), 0)])
    scores, _, report, table, _, _ = score(greys(0.25, 0.75), reward=mix)
    assert scores == [0.25, 0.75] and report["reward"] == "mix" and report["shares"] == {"red": 1.0, "failing": 0.0}
    assert report["images"][0]["parts"] == {"red": 0.25, "failing": None}
    assert table.splitlines()[0].split() == ["rank", "image", "score", "red", "failing"]
    assert table.splitlines()[1].split() == ["1", "1", "0.7500", "0.7500", "-"]


def test_the_table_is_aligned_and_best_first(score):
    _, _, _, table, _, _ = score(greys(*[place / 16 for place in range(12)]))
    lines = table.splitlines()
    assert len({len(line) for line in lines[:13]}) == 1
    assert [line.split()[1] for line in lines[1:13]] == [str(place) for place in range(11, -1, -1)]


def test_what_can_not_be_scored_is_one_sentence(score):
    class One(Red):
        def score(self, images, prompts):
            return images.mean()

    with pytest.raises(ValueError, match="must give one an image"):
        score(greys(0.1, 0.2), reward=One())
    with pytest.raises(ValueError, match="A str is no reward"):
        score(greys(0.1), reward="anything")
    with pytest.raises(ValueError, match="There are no images"):
        score(torch.zeros(0, 8, 8, 3))
    with pytest.raises(ValueError, match="images are"):
        score(torch.zeros(1, 8, 8, 1))


def test_the_schemas_explain_themselves(room):
    nodes = room("nodes.scoring").NODES
    assert {node.define_schema().node_id for node in nodes} == {
        "MixGRPO_Score", "MixGRPO_PickBest", "MixGRPO_RewardMix", "MixGRPO_SaveScored", "MixGRPO_Evaluate"
    }  # fmt: skip
    for node in nodes:
        schema = node.define_schema()
        assert schema.description and all(part.tooltip for part in [*schema.inputs, *schema.outputs])


class Sees:
    """The brightness of the source and the mask, of which it needs the first."""

    name, uses_references, needed_references = "sees", True, ("image",)

    def score(self, images, prompts, references):
        self.references = references
        return torch.stack([sum(picture.mean() for picture in each.images.values()) for each in references])


def test_every_image_is_scored_beside_its_own_source(score):
    sources, masks = [greys(0.5, 0.25, size=4)], [torch.zeros(4, 4), torch.ones(1, 4, 4)]
    reward = Sees()
    one, two = greys(0.1), greys(0.2, size=16)
    assert score(one, two, reward=reward, source=sources)[0] == [0.5, 0.25]
    assert score(one, two, reward=reward, source=sources, mask=masks)[0] == [0.5, 1.25]
    assert reward.references[0].images["image"].shape == (4, 4, 3)
    assert reward.references[0].images["mask"].shape == (4, 4)
    assert score(greys(0.1, 0.2), greys(0.3), reward=reward, source=sources)[0] == [0.5, 0.5, 0.25], "one a batch"
    assert score(greys(0.1, 0.2), reward=reward, source=[greys(0.5)])[0] == [0.5, 0.5], "one for all"
    assert reward.references[0] is reward.references[1]


def test_sources_that_do_not_fit_and_missing_ones_are_one_sentence(score):
    with pytest.raises(ValueError, match="source is a list of 2 and there are 3 images in 1 batches: give one for all"):
        score(greys(0.1, 0.2, 0.3), reward=Sees(), source=[greys(0.5, 0.5)])
    for more in ({}, {"mask": [torch.ones(4, 4)]}):
        with pytest.raises(
            ValueError, match="'sees' compares with the picture 'image'.*source and mask of MixGRPO Score"
        ):
            score(greys(0.1), reward=Sees(), **more)
