"""Scorers read prompts without the weighting syntax, in every node that scores; text encoders get them as written."""

import json

import pytest
import torch

AS_WRITTEN = r"a (red:1.3) circle (on ((white)):0.5) \(left\)"
PLAIN = "a red circle on white (left)"
TEXTS = [
    ("a red circle", "a red circle"),
    ("(red:1.3)", "red"),
    ("a (red:1.3) cat", "a red cat"),
    ("((a)) (b (c:0.5):1.2)", "a b c"),
    (r"smile :\) and \(red:1.3\)", "smile :) and (red:1.3)"),
    ("(ratio 16:9)", "ratio 16"),  # so it is for a text encoder: what follows the colon is a number
    ("a (b", "a (b"),
    ("", ""),
]


class Reads:
    """Keeps the prompts that it is given."""

    name = "reads"

    def __init__(self):
        self.given = []

    def score(self, images, prompts):
        self.given.append(("score", *set(prompts)))
        return images[..., 0].mean((1, 2))

    def strict(self, images, prompts):
        self.given.append(("strict", *set(prompts)))
        return images[..., 0].mean((1, 2)).round()

    failures = ["The lamp went out."]


@pytest.fixture
def plain(room):
    return room("nodes.rewards.plain_prompts")


@pytest.fixture(scope="module")
def models(room):
    return room("nodes.tiny.tiny_model").MixGRPOTinyModel.execute().result


@pytest.mark.parametrize("written, expected", TEXTS)
def test_the_words_are_those_that_the_tokenizer_sees(plain, clip, written, expected):
    assert plain.without_weights(written) == expected
    # ComfyUI's own tokenizer is the judge: the same tokens, whatever their weights.
    seen, unweighted = clip.tokenize(written)["l"], clip.tokenize(expected, disable_weights=True)["l"]
    assert [token for row in seen for token, _ in row] == [token for row in unweighted for token, _ in row]


def test_strict_and_failures_are_the_rewards_own(plain):
    reward, images = Reads(), torch.rand(2, 8, 8, 3)
    made = plain.by_plain_prompts({"x": reward})["x"]
    made.score(images, [AS_WRITTEN] * 2), made.strict(images, [AS_WRITTEN] * 2)
    assert reward.given == [("score", PLAIN), ("strict", PLAIN)]
    assert made.failures == ["The lamp went out."] and made.name == "reads"
    del Reads.strict
    assert not hasattr(plain.PlainPrompts(Reads()), "strict")


def test_references_pass_and_videos_go_whole_to_who_wants_them(plain, room):
    given = []

    class Whole(Reads):
        uses_references = True

        def score_videos(self, videos, prompts, references):
            given.append((tuple(videos.shape), prompts, references))
            return videos.mean((1, 2, 3, 4))

    reward = room("nodes.model.video").reward_of_videos(plain.reading_plain_prompts(Whole()), 3)
    references = [room("mixgrpo_engine.rewards.references").References()] * 2
    scores = reward.score(torch.ones(2, 12, 5, 3), [AS_WRITTEN] * 2, references)
    assert scores.tolist() == [1, 1] and given == [((2, 3, 4, 5, 3), [PLAIN] * 2, references)]


@pytest.fixture(params=["score", "pick best", "evaluate", "group sample"])
def scoring_node(request, room, models, tmp_path, monkeypatch):
    """Runs a node that scores images of AS_WRITTEN by the reward; gives the prompts that it reports."""
    import folder_paths

    from tests.nodes.hidden_inputs import with_hidden

    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    model, clip, vae = models
    images = torch.rand(2, 8, 8, 3)

    def score(reward):
        made = room("nodes.scoring.score").MixGRPOScore.execute([images], [reward], [AS_WRITTEN], [False])
        return [entry["prompt"] for entry in json.loads(made.result[2])["images"]]

    def pick_best(reward):
        node = room("nodes.scoring.pick_best").MixGRPOPickBest
        made = node.execute([images], [1], [False], [0.0], ["best"], [AS_WRITTEN], [False], [reward])
        return [entry["prompt"] for entry in json.loads(made.result[3])["images"]]

    def evaluate(reward):
        node = with_hidden(room("nodes.scoring.evaluate").MixGRPOEvaluate, unique_id="1")
        made = node.execute.__func__(
            node, model, model, clip, vae, reward, AS_WRITTEN, "", 1, 1, 0, 1, 1.0, "euler", "simple", 64, 64, 1, "e"
        )
        return [entry["prompt"] for entry in json.loads(made.result[2])["prompts"]]

    def group_sample(reward):
        config = room("mixgrpo_engine.config")
        algorithm = config.TrainConfig(config.RolloutConfig(steps=2, group_size=2), config.WindowConfig(size=1))
        node = room("nodes.sampling.group_sample").MixGRPOGroupSample
        made = node.execute(model, vae, reward, algorithm, AS_WRITTEN, 0, 0, 64, 64, clip=clip)
        return [json.loads(made.result[2])["prompt"]]

    return {"score": score, "pick best": pick_best, "evaluate": evaluate, "group sample": group_sample}[request.param]


@pytest.mark.parametrize("mixed", [False, True])
def test_a_scoring_node_gives_scorers_the_plain_prompt_and_reports_the_written_one(room, scoring_node, mixed):
    one, other = Reads(), Reads()
    reward = room("mixgrpo_engine.rewards.mix").mix([(one, 1.0), (other, 1.0)]) if mixed else one
    with torch.inference_mode():
        assert set(scoring_node(reward)) == {AS_WRITTEN}
    for each in [one, other] if mixed else [one]:
        assert set(each.given) == {("score", PLAIN)}
