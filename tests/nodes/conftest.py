"""Fixtures of the node tests: the pack's modules, and a policy over a tiny model of each family."""

import importlib

import pytest

from tests.nodes import tiny_models


@pytest.fixture(scope="session")
def room(pack):
    """`room("nodes.policy")` is that module of the pack, as ComfyUI would import it."""
    return lambda name: importlib.import_module(f"{pack.__name__}.{name}")


@pytest.fixture(params=["sd3", "flux"])
def build(request, comfy):
    """Builds a fresh tiny MODEL; tests that take it run once for SD3 and once for FLUX."""
    return getattr(tiny_models, request.param)


@pytest.fixture(scope="session")
def vae(comfy):
    return tiny_models.vae()


@pytest.fixture
def encoded(room):
    """Three prompts, the third one longer, and the negative prompt, longest of all."""
    return room("nodes.conditioning").Encoded(
        {
            "red": tiny_models.conditioning(1),
            "green": tiny_models.conditioning(2),
            "long": tiny_models.conditioning(3, tokens=12),
            "": tiny_models.conditioning(4, tokens=14),
        }
    )


@pytest.fixture
def policy_of(room, vae, encoded):
    """`policy_of(model, **changes)` is a ComfyPolicy with a LoRA of rank 4 on all blocks."""

    def make(model, vae=vae, *, rank=4, alpha=0.0, targets="", exclude="", **changes):
        adapter = room("mixgrpo_engine.config").AdapterConfig(rank, alpha, targets, exclude)
        size = {"width": tiny_models.SIZE, "height": tiny_models.SIZE}
        return room("nodes.policy").ComfyPolicy(
            model, vae, encoded, **{**size, "adapter": adapter, "seed": 3, **changes}
        )

    return make
