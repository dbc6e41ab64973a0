"""Rewards by their names in a run file: options, and what only the environment may say."""

from pathlib import Path

import pytest

from mixgrpo_engine.rewards.shapes import ShapesReward
from mixgrpo_engine.standalone import reward_table


def test_a_scorer_without_options(tmp_path):
    assert isinstance(reward_table.load("shapes", {}, tmp_path, "cpu"), ShapesReward)
    with pytest.raises(ValueError, match="'shapes' has no option 'size': its options are none"):
        reward_table.load("shapes", {"size": 1}, tmp_path, "cpu")
    with pytest.raises(ValueError, match="There is no reward 'gone'"):
        reward_table.load("gone", {}, tmp_path, "cpu")


def test_a_judge_takes_hosts_and_key_from_the_environment_alone(tmp_path, monkeypatch):
    options = {"urls": ["http://127.0.0.1:1/v1"], "model": "m", "question": "overall", "retries": 0}
    for name in (reward_table.JUDGE_HOSTS, reward_table.JUDGE_KEY):
        monkeypatch.delenv(name, raising=False)
    judge = reward_table.load("judge", options, tmp_path, "cpu")
    assert judge.options.urls == ("http://127.0.0.1:1/v1",) and judge.options.question.scale == (0.0, 5.0)
    own = {"text": "How good?", "templates": ["Score: {score}"], "scale": [0, 10]}
    asked = reward_table.load("judge", {**options, "question": own}, tmp_path, "cpu").options.question
    assert asked.scale == (0, 10)
    with pytest.raises(ValueError, match="no question 'overal': choose"):
        reward_table.load("judge", {**options, "question": "overal"}, tmp_path, "cpu")
    for secret in ("key", "allowed_hosts"):
        with pytest.raises(ValueError, match=f"no option '{secret}'"):
            reward_table.load("judge", {**options, secret: "x"}, tmp_path, "cpu")
    monkeypatch.setenv(reward_table.JUDGE_KEY, "secret")
    with pytest.raises(ValueError, match="MIXGRPO_JUDGE_KEY is set without MIXGRPO_JUDGE_HOSTS"):
        reward_table.load("judge", options, tmp_path, "cpu")
    monkeypatch.setenv(reward_table.JUDGE_HOSTS, "judge.example")
    with pytest.raises(PermissionError):
        reward_table.load("judge", options, tmp_path, "cpu")


def test_other_scorers_at_other_hosts_take_them_from_there_too(tmp_path, monkeypatch):
    for name in (reward_table.JUDGE_HOSTS, reward_table.JUDGE_KEY):
        monkeypatch.delenv(name, raising=False)
    urls = {"urls": ["http://127.0.0.1:1"], "retries": 0}
    pairs = {**urls, "model": "m", "question": "think", "calls": 24}
    assert reward_table.load("pairwise_judge", pairs, tmp_path, "cpu").options.calls == 24
    asked = reward_table.load("pairwise_judge", {**pairs, "question": {"text": "Which?"}}, tmp_path, "cpu")
    assert asked.options.question.text == "Which?"
    with pytest.raises(ValueError, match="no question .Which\?.: choose better"):
        reward_table.load("pairwise_judge", {**pairs, "question": "Which?"}, tmp_path, "cpu")
    assert reward_table.load("http", {**urls, "batch_size": 2}, tmp_path, "cpu").options.batch_size == 2
    monkeypatch.setenv(reward_table.JUDGE_HOSTS, "judge.example")
    for name, options in (("pairwise_judge", pairs), ("http", urls)):
        with pytest.raises(PermissionError):
            reward_table.load(name, options, tmp_path, "cpu")


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        (
            "judge",
            {"concurrency": "8"},
            "^The option concurrency of the reward 'judge' is '8': it must be a whole number",
        ),
        ("judge", {"model": 5}, "^The option model of the reward 'judge' is 5: it must be a text"),
        ("judge", {"question": {"text": 5, "templates": ["{score}"]}}, "^The option question.text .* must be a text"),
        (
            "judge",
            {"question": {"text": "x", "templates": ["{score}"], "scale": 5}},
            "^The reward 'judge' can't be made",
        ),
        ("judge", {"urls": 5}, """^The reward 'judge' can't be made with the options {"urls": 5, .*: mend them.$"""),
        ("judge", {"urls": [5]}, "^The reward 'judge' can't be made with the options"),
        ("pairwise_judge", {"question": {"text": "x", "source": "no"}}, "question.source .* must be true or false"),
        ("aesthetic", {"head": 5, "clip": "x"}, "^The reward 'aesthetic' can't be made with the options"),
        ("aesthetic", {"head": "x", "clip": "x", "device": "gpu"}, "^The device of the reward 'aesthetic' is 'gpu'"),
    ],
)
def test_an_option_of_another_type_is_one_sentence(tmp_path, name, options, told):
    given = {"urls": ["http://127.0.0.1:1"], "model": "m"} if "judge" in name else {}
    with pytest.raises(ValueError, match=told):
        reward_table.load(name, {**given, **options}, tmp_path, "cpu")


def test_a_single_url_or_template_needs_no_list(tmp_path):
    assert reward_table.load("http", {"urls": "http://127.0.0.1:1"}, tmp_path, "cpu").options.urls == (
        "http://127.0.0.1:1",
    )
    question = {"text": "How good?", "templates": "Score: {score}"}
    options = {"urls": "http://127.0.0.1:1/v1", "model": "m", "question": question}
    assert reward_table.load("judge", options, tmp_path, "cpu").options.question.templates == ("Score: {score}",)


def test_jpeg_and_every_other_name_has_its_class(tmp_path):
    assert reward_table.load("jpeg", {"quality": 50}, tmp_path, "cpu").quality == 50
    for name in reward_table.REWARDS:
        assert reward_table._find(name).__name__.endswith("Reward")


def test_options_are_the_constructors_and_its_groups(tmp_path, monkeypatch):
    from mixgrpo_engine.rewards.networks.model_reward import ModelOptions, Residence

    class Scorer:
        name = "scorer"

        def __init__(self, weights: str | Path, options: ModelOptions | None = None,
                     residence: Residence | None = None, *, kind: str = "a"):  # fmt: skip
            self.weights, self.options, self.residence, self.kind = weights, options, residence, kind

    # get_type_hints reads a class's annotations in its module: here they are real types already.
    monkeypatch.setattr(reward_table, "_find", lambda name: Scorer)
    made = reward_table.load("x", {"weights": "w.safetensors", "batch_size": 3, "kind": "b"}, tmp_path, "cpu")
    assert made.weights == tmp_path / "w.safetensors" and made.kind == "b"
    assert made.options == ModelOptions(device="cpu", batch_size=3) and made.residence is None
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert reward_table.load("x", {"weights": "w"}, tmp_path, "cuda").options.device == "cuda"
    with pytest.raises(ValueError, match="needs the option 'weights'"):
        reward_table.load("x", {}, tmp_path, "cpu")
    with pytest.raises(ValueError, match="no option 'residence'"):
        reward_table.load("x", {"weights": "w", "residence": 1}, tmp_path, "cpu")
