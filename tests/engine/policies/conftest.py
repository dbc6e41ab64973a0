"""Tiny diffusers folders, saved once, and policies over them."""

import pytest
import torch

from mixgrpo_engine.config import AdapterConfig
from mixgrpo_engine.policies.diffusers_folder import DiffusersFolder
from mixgrpo_engine.policies.diffusers_policy import DiffusersPolicy, encode_prompts
from mixgrpo_engine.policies.encoded_prompts import EncodedPrompts
from tests.engine.policies import tiny_pipelines

PROMPTS = ["a red circle on the left", "two blue squares", "a circle", ""]
SIZE = 64


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """{"flux": ..., "sd3": ..., "chroma": ...}: folders that tests only read."""
    root = tmp_path_factory.mktemp("diffusers")
    return {name: getattr(tiny_pipelines, name)(root / name) for name in ("flux", "sd3", "chroma")}


@pytest.fixture(params=["flux", "sd3"])
def kind(request):
    return request.param


@pytest.fixture(scope="session")
def encoded(folders, tmp_path_factory):
    """PROMPTS as each folder encodes them."""
    made = {}
    for kind, path in folders.items():
        folder = DiffusersFolder(path)
        made[kind] = EncodedPrompts(tmp_path_factory.mktemp("prompts"), PROMPTS, kind)
        encode_prompts(folder, made[kind], "cpu", torch.float32, 32)
    return made


@pytest.fixture
def policy_of(folders, encoded):
    """`policy_of(kind, **changes)` is a DiffusersPolicy with a LoRA of rank 4 on all blocks."""

    def make(kind, *, path=None, adapter=None, **changes):
        options = {"width": SIZE, "height": SIZE, "adapter": adapter or AdapterConfig(rank=4), "seed": 3, **changes}
        return DiffusersPolicy(DiffusersFolder(path or folders[kind]), encoded[kind], **options)

    return make
