"""The settings for cards are valid, and the stored estimates say that they fit."""

import json
from pathlib import Path

import pytest

from mixgrpo_engine.memory import estimate
from mixgrpo_engine.memory.cards import CARDS
from mixgrpo_engine.memory.estimate import GB, Line, Needs
from mixgrpo_engine.presets import preset
from mixgrpo_engine.schedule import flash_sigmas, flow_sigmas

STORED = Path(__file__).resolve().parents[3] / "benchmarks" / "results" / "memory.json"


@pytest.fixture(params=CARDS)
def name(request):
    return request.param


def test_settings_are_valid_and_keep_their_preset(name):
    config = CARDS[name].config()
    config.validate()
    assert config.run.gradient_checkpointing
    own = CARDS[name].settings.get("rollout", {})
    assert config.rollout.steps == own.get("steps", preset(CARDS[name].preset).rollout.steps)


def test_evaluations_are_a_twentieth_of_a_run_at_most(name):
    """In forwards of 8 held-out prompts; an update with gradient checkpointing counts as 4: 1, again 1, 2 backward."""
    config = CARDS[name].config()
    rollout, window, trained = config.rollout, config.sliding_window(), 0
    assert rollout.shared_noise or rollout.flash_ratio == 1
    for iteration in range(config.run.iterations):
        places, sigmas = window.at(iteration), flow_sigmas(rollout.steps)
        if rollout.flash_ratio < 1:
            sigmas = flash_sigmas(sigmas, places, rollout.flash_ratio)
        own = len(sigmas) - 1 - (places.start + 1) * rollout.shared_noise
        shared = (places.start + 1) * rollout.shared_noise
        updates = 4 * config.trained_steps(len(places))
        trained += rollout.prompts_per_iteration * (shared + rollout.group_size * (own + updates))
    times = config.run.iterations // config.run.evaluate_every + 1
    evaluated = times * 8 * config.run.evaluate_images * config.evaluation_steps
    print(f"{name}: evaluations {evaluated / (evaluated + trained):.1%}")
    assert evaluated <= 0.05 * (evaluated + trained)


def test_a_card_holds_what_its_settings_need(name):
    card, stored = CARDS[name], json.loads(STORED.read_text())["cards"][name]
    values = stored["needs"].items()
    needs = Needs(**{key: Line(**value) if isinstance(value, dict) else value for key, value in values})
    made = estimate.plan(needs, (card.gigabytes - 1) * GB, card.config())
    assert made.fits and needs.least() == stored["least"]
    assert made.update_batch == stored["update_batch_size"]
    room = (card.gigabytes - 1) * GB - needs.always - estimate.WORKSPACE
    assert needs.update.of(1) * (1 + estimate.SLACK) <= room, "one image with all margins"
