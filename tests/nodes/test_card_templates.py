"""The templates for cards say what mixgrpo_engine/memory/cards.py says."""

import json
from pathlib import Path

import pytest

from mixgrpo_engine.config import RunConfig
from mixgrpo_engine.memory.cards import CARDS
from scripts import card_templates

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"


@pytest.fixture(params=card_templates.SOURCES)
def name(request):
    return request.param


@pytest.fixture
def twin(name):
    return read("api", name)


def read(kind, name):
    return json.loads((WORKFLOWS / kind / f"{name}.json").read_text(encoding="utf-8"))


def inputs(twin, class_type):
    (node,) = (node for node in twin.values() if node["class_type"] == class_type)
    return {key: value for key, value in node["inputs"].items() if not isinstance(value, list)}


def test_every_card_has_a_template():
    assert {card.template for card in CARDS.values()} == card_templates.SOURCES.keys() - card_templates.CARD_OF.keys()


def test_the_files_are_those_that_the_script_writes(name, twin):
    made = "run `python -m scripts.card_templates`, and `python -m scripts.make_template` for each"
    assert twin == json.loads(json.dumps(card_templates.prompt(name))), made
    assert read("layout", name) == json.loads(json.dumps(card_templates.layout(name))), made


def test_the_nodes_settings_are_the_cards(name, twin, room):
    _, card = card_templates.card_of(name)
    config, node = card.config(), room("nodes.algorithm")
    algorithm = inputs(twin, "MixGRPO_Algorithm")
    preset = algorithm.pop("preset")
    assert algorithm.keys() == {each.label for each in node.ALGORITHM_SETTINGS}
    ours = node.chosen(preset, algorithm).as_dict()
    assert {group: ours[group] for group in ("rollout", "window", "loss", "optimizer")} == {
        group: config.as_dict()[group] for group in ("rollout", "window", "loss", "optimizer")
    }
    # A field that isn't given has the preset's value: but for the card's own, the preset alone is as good.
    own = card.settings.get("rollout", {})
    assert (preset == "custom") == bool(own)
    alone = node.chosen(card.preset, {key: value for key, value in algorithm.items() if key in own}).as_dict()
    assert {group: alone[group] for group in ours if group != "adapter"} == {
        group: values for group, values in ours.items() if group != "adapter"
    }
    adapter = node.MixGRPOLoRA.execute(**inputs(twin, "MixGRPO_LoRA")).result[0]
    assert vars(adapter) == vars(config.adapter)
    train = inputs(twin, "MixGRPO_Train")
    assert RunConfig(**{key: train.pop(key) for key in list(train) if hasattr(config.run, key)}) == config.run
    assert train.keys() == {"run_name", "mode", "if_exists"}


def test_sampling_waits_for_the_training(twin):
    """Only Train and Apply Run take the loaders' outputs: others would load beside the worker."""
    takers = {
        node["class_type"]
        for node in twin.values()
        for value in node["inputs"].values()
        if isinstance(value, list) and value[0] in ("1", "2", "3")
    }
    assert takers == {"MixGRPO_Train", "MixGRPO_ApplyRun"}


def test_the_images_are_of_the_trainings_size_and_guidance(name, twin):
    config = card_templates.card_of(name)[1].config()
    size = inputs(twin, twin["16"]["class_type"])
    assert (size["width"], size["height"]) == (config.run.width, config.run.height)
    assert size.get("length", 1) == config.run.frames
    samplers = [node["inputs"] for node in twin.values() if node["class_type"] == "KSampler"]
    assert [sampler["cfg"] for sampler in samplers] == [config.rollout.cfg] * 2
    assert {sampler["seed"] for sampler in samplers} == {42}
