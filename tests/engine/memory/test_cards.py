"""The settings for cards are valid, and the stored estimates say that they fit."""

import json
from pathlib import Path

import pytest

from mixgrpo_engine.memory import estimate
from mixgrpo_engine.memory.cards import CARDS
from mixgrpo_engine.memory.estimate import GB, Line, Needs

STORED = Path(__file__).resolve().parents[3] / "benchmarks" / "results" / "memory.json"


@pytest.fixture(params=CARDS)
def name(request):
    return request.param


def test_settings_are_valid_and_keep_their_preset(name):
    config = CARDS[name].config()
    config.validate()
    assert config.run.gradient_checkpointing
    assert config.rollout.steps == {"MixGRPO SD3.5": 10}.get(CARDS[name].preset, 25)


def test_a_card_holds_what_its_settings_need(name):
    card, stored = CARDS[name], json.loads(STORED.read_text())["cards"][name]
    values = stored["needs"].items()
    needs = Needs(**{key: Line(**value) if isinstance(value, dict) else value for key, value in values})
    made = estimate.plan(needs, (card.gigabytes - 1) * GB, card.config())
    assert made.fits and needs.least() == stored["least"]
    assert (made.update_batch or estimate.minibatch(card.config())) == stored["update_batch_size"]
    room = (card.gigabytes - 1) * GB - needs.always - estimate.WORKSPACE
    assert needs.update.of(1) * (1 + estimate.SLACK) <= room, "one image with all margins"
