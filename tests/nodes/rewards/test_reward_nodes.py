"""The nodes of judges, of the HTTP scorer, of OCR, JPEG size and the mask: schema, help, checks, what they make."""

import functools
import importlib.util
import json

import pytest
import torch

from tests.conftest import ROOT
from tests.fake_judge import chat, fake_judge

NODES = {
    "judge": "MixGRPO_RewardJudge",
    "pairwise": "MixGRPO_RewardPairwiseJudge",
    "http": "MixGRPO_RewardHTTP",
    "ocr": "MixGRPO_RewardOCR",
    "jpeg": "MixGRPO_RewardJPEG",
    "outside_mask": "MixGRPO_RewardOutsideMask",
}
REMOTE = ("judge", "pairwise", "http")


@pytest.fixture
def user_folder(tmp_path, monkeypatch, room):
    """ComfyUI's user folder, with no owner's setting in file or environment."""
    import folder_paths

    for variable in room("nodes.owner_settings").VARIABLES.values():
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(folder_paths, "user_directory", str(tmp_path))
    return tmp_path


@pytest.fixture
def node(room):
    """`node("judge")` is the class of that node."""
    nodes = {each.define_schema().node_id: each for each in room("nodes.rewards").NODES}
    return lambda name: nodes[NODES[name]]


@pytest.fixture
def made(node, user_folder):
    """`made(name, **changes)` executes a node, other inputs at their defaults; its reward."""

    def execute(name, **changes):
        widgets = {widget.id: widget.default for widget in node(name).define_schema().inputs}
        return node(name).execute(**{**widgets, **changes}).result[0]

    return execute


@pytest.fixture
def judge(made):
    return functools.partial(made, "judge")


def allow(user_folder, *hosts, **others):
    (user_folder / "mixgrpo.json").write_text(json.dumps({"judge_hosts": hosts, **others}))


@pytest.mark.parametrize("name", NODES)
def test_every_node_explains_itself_and_is_registered(node, room, name):
    schema = node(name).define_schema()
    assert schema.node_id == NODES[name] and schema.category == "MixGRPO/rewards" and schema.description
    assert all(value.tooltip for value in [*schema.inputs, *schema.outputs])
    assert [output.io_type for output in schema.outputs] == ["MIXGRPO_REWARD"]
    assert node(name) in room("nodes.rewards").NODES
    help_page = (ROOT / "nodes" / "web" / "docs" / f"{NODES[name]}.md").read_text()
    assert help_page.startswith(f"# {schema.display_name}\n")
    assert all(widget.id in help_page for widget in schema.inputs)


def test_jpeg(node):
    for kind in ("compressibility", "incompressibility"):
        assert node("jpeg").execute(kind).result[0].name == kind


def test_outside_mask(node):
    assert node("outside_mask").execute().result[0].needed_references == ("image", "mask")


def test_ocr(node, monkeypatch):
    assert node("ocr").execute().result[0].name == "ocr"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match="-m pip install"):
        node("ocr").execute()


@pytest.mark.parametrize("name", REMOTE)
@pytest.mark.parametrize("hosts", [(), ("127.0.0.1:8001",), ("localhost:8000",)])
def test_a_host_that_is_not_allowed_is_refused_before_and_at_execution(node, made, user_folder, hosts, name):
    allow(user_folder, *hosts)
    refusal = node(name).validate_inputs(urls="http://127.0.0.1:8000")
    assert "127.0.0.1:8000 isn't on the list" in refusal
    assert "MIXGRPO_JUDGE_HOSTS" in refusal and "mixgrpo.json" in refusal
    with pytest.raises(ValueError) as error:
        made(name, urls="http://127.0.0.1:8000")
    assert str(error.value) == refusal


def test_an_allowed_host_passes_and_one_bad_url_of_many_does_not(node, judge, user_folder):
    allow(user_folder, "127.0.0.1:8000", "::1")
    validate = node("judge").validate_inputs
    assert validate(urls="http://127.0.0.1:8000\n\n http://[::1]/v1 \n") is True
    assert validate() is True, "a linked input is unknown yet"
    assert "evil.example:80" in validate(urls="http://127.0.0.1:8000\nhttp://evil.example")
    assert "no URL" in validate(urls=" \n")
    assert "password" in validate(urls="http://me:secret@127.0.0.1:8000")
    assert [server.address.port for server in judge()._client.servers] == [8000]


@pytest.mark.parametrize("name", REMOTE)
def test_the_environment_allows_too(node, user_folder, monkeypatch, name):
    monkeypatch.setenv("MIXGRPO_JUDGE_HOSTS", "127.0.0.1:8000")
    assert node(name).validate_inputs(urls="http://127.0.0.1:8000") is True


@pytest.mark.parametrize("name", REMOTE)
def test_what_the_owner_changes_makes_the_node_run_again(node, user_folder, name):
    before = node(name).fingerprint_inputs(urls="x")
    assert before == node(name).fingerprint_inputs(urls="x")
    allow(user_folder, "127.0.0.1:8000")
    assert node(name).fingerprint_inputs(urls="x") != before


def test_every_setting_arrives(judge, user_folder):
    allow(user_folder, "h:1", "h:2", judge_key="sk-1")
    reward = judge(
        urls="http://h:1\nhttp://h:2", model=" vlm ", preset="custom", question="Is {prompt} good?",
        score_template="<{score}>", minimum=1.0, maximum=3.0, concurrency=2, timeout=3.0, retries=4, deadline=5.0,
        max_side=640, image_format="png", max_tokens=6, seed=7,
    )  # fmt: skip
    options, client = reward.options, reward._client.options
    assert options.urls == ("http://h:1", "http://h:2") and options.model == "vlm" and options.to_unit == (1, 3)
    assert (options.question.text, options.question.templates) == ("Is {prompt} good?", ("<{score}>",))
    assert (options.max_side, options.image_format, options.max_tokens, options.seed) == (640, "png", 6, 7)
    assert (client.concurrency, client.timeout, client.retries, client.deadline) == (2, 3, 4, 5)
    assert [server.key for server in reward._client.servers] == ["sk-1", "sk-1"]


def test_every_setting_of_the_comparison_arrives(made, room, user_folder):
    allow(user_folder, "h:1", judge_key="sk-1")
    reward = made(
        "pairwise", urls="http://h:1", model=" vlm ", preset="custom", question="Which {prompt}?", calls=24,
        concurrency=2, timeout=3.0, retries=4, deadline=5.0, max_side=640, image_format="webp", max_tokens=6, seed=7,
        show_source=True,
    )  # fmt: skip
    options, client = reward.options, reward._client.options
    assert options.urls == ("http://h:1",) and options.model == "vlm" and options.calls == 24
    assert options.question.text == "Which {prompt}?" and reward.needed_references == ("image",)
    assert (options.max_side, options.image_format, options.max_tokens, options.seed) == (640, "webp", 6, 7)
    assert (client.concurrency, client.timeout, client.retries, client.deadline) == (2, 3, 4, 5)
    assert [server.key for server in reward._client.servers] == ["sk-1"]
    presets = room("mixgrpo_engine.rewards.judge.pair_questions").PAIR_PRESETS
    assert made("pairwise", urls="http://h:1", preset="think").options.question is presets["think"]


def test_every_setting_of_the_http_scorer_arrives(made, user_folder):
    allow(user_folder, "h:1", judge_key="sk-1")
    reward = made(
        "http", urls="http://h:1/a/b", batch_size=3, concurrency=2, timeout=3.0, retries=4, deadline=5.0, max_side=640,
        image_format="webp",
    )  # fmt: skip
    options, client = reward.options, reward._client.options
    assert (options.batch_size, options.max_side, options.image_format) == (3, 640, "webp")
    assert (client.concurrency, client.timeout, client.retries, client.deadline) == (2, 3, 4, 5)
    assert [(server.address.url, server.key) for server in reward._client.servers] == [("http://h:1/a/b", "sk-1")]


@pytest.mark.parametrize("preset, needs", [("semantic", ()), ("edit", ("image",)), ("custom", ("image",))])
def test_questions_about_edits_need_the_source(judge, user_folder, preset, needs):
    allow(user_folder, "127.0.0.1:8000")
    assert judge(preset=preset, show_source=True).needed_references == needs


def test_defaults_ask_the_semantic_question_and_map_nothing(judge, room, user_folder):
    allow(user_folder, "127.0.0.1:8000")
    options = judge().options
    presets = room("mixgrpo_engine.rewards.judge.questions").PRESETS
    assert options.question is presets["semantic"] and options.to_unit is None and options.seed is None
    assert judge(preset="overall").options.question is presets["overall"]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"image_format": "gif"}, "image_format is 'gif'"),
        ({"preset": "custom", "score_template": "(a+)+$"}, "must hold {score} once"),
        ({"preset": "custom", "question": ""}, "question is empty"),
        ({"minimum": 5.0, "maximum": 1.0}, "minimum must be below the maximum"),
        ({"model": ""}, "model is empty"),
    ],
)
def test_a_bad_input_is_one_sentence(judge, user_folder, changes, message):
    allow(user_folder, "127.0.0.1:8000")
    with pytest.raises(ValueError, match=message):
        judge(**changes)


def test_the_default_custom_question_works_end_to_end(judge, user_folder):
    async def respond(call):
        return chat("It fits.\n**Score: 8**" if "Prompt of the picture: a cat\n" in call.text else "What?")

    with fake_judge(respond) as server:
        allow(user_folder, f"127.0.0.1:{server.port}")
        reward = judge(urls=server.url, preset="custom", minimum=0.0, maximum=10.0)
        assert reward.score(torch.zeros(2, 8, 8, 3), ["a cat", "a cat"]).tolist() == pytest.approx([0.8, 0.8])


def test_urls_that_are_no_text_are_refused_in_a_sentence(node):
    assert node("judge").validate_inputs(urls=["http://127.0.0.1"]) == "urls must be a text with one address a line."
