"""The embedded model with small settings, and made-up figures."""

import dataclasses

import pytest

from benchmarks import demo_model
from mixgrpo_engine.prompts import PromptSet

STEPS, GROUP, PROMPTS, UPDATES = 8, 3, 2, 2
IMAGES = GROUP * PROMPTS


@pytest.fixture(scope="session")
def demo(comfy):
    return demo_model.load()


@pytest.fixture(scope="session")
def small(demo):
    """The demo with iterations of 6 images and 8 steps, and two held-out prompts."""
    settings = dataclasses.replace(
        demo.settings,
        rollout=dataclasses.replace(
            demo.settings.rollout, steps=STEPS, group_size=GROUP, prompts_per_iteration=PROMPTS
        ),
        optimizer=dataclasses.replace(demo.settings.optimizer, updates=UPDATES),
        run=dataclasses.replace(demo.settings.run, evaluate_images=1),
    )
    prompts = PromptSet(demo.prompts.train, demo.prompts.held_out[:2])
    return dataclasses.replace(demo, settings=settings, prompts=prompts)


@pytest.fixture
def sample():
    """`sample(variant, repeat, seconds, bare)` is a made-up sample of part A."""

    def make(variant, repeat, seconds, bare=1.0):
        parts = {"rollout": seconds / 2, "score": seconds / 8, "update": seconds / 4, "rest": seconds / 8}
        return {
            "variant": variant,
            "repeat": repeat,
            "window": [0, 4],
            "forwards": {"rollout": 10.0, "update": 3.0 + repeat},
            "seconds": {"iteration": seconds, **parts},
            "processor": seconds,
            "bare": {"denoiser": bare, "vae": bare},
        }

    return make


@pytest.fixture
def made_up_run(demo):
    """`made_up_run(variant, seed)` is a made-up run of part B: the reward rises from 0.5 to 0.7 + seed / 10."""

    def make(variant, seed):
        window = dataclasses.asdict(variant.settings(demo.settings).window)
        points = [
            {"seconds": 0.0, "iteration": 0, "reward": 0.5, "strict": 0.25},
            {"seconds": 9.5 + seed, "iteration": 8, "reward": 0.7 + seed / 10, "strict": 0.5},
        ]
        figures = {"iterations": 8, "seconds": 9.5 + seed, "forwards": 1000, "points": points}
        return {"variant": variant.name, "seed": seed, "window": window, **figures}

    return make
