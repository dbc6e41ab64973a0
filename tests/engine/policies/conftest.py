"""Tiny diffusers folders, saved once, and policies over them."""

import importlib.util
import sys
from pathlib import Path

import pytest

from mixgrpo_engine.config import AdapterConfig
from mixgrpo_engine.policies.diffusers_folder import DiffusersFolder
from mixgrpo_engine.policies.diffusers_policy import DiffusersPolicy, encode_prompts
from mixgrpo_engine.policies.encoded_prompts import EncodedPrompts

PROMPTS = ["a red circle on the left", "two blue squares", "a circle", ""]
SIZE = 64

# importlib mode puts no test folder on sys.path: the helper is loaded by its file.
_spec = importlib.util.spec_from_file_location("tiny_pipelines", Path(__file__).with_name("tiny_pipelines.py"))
tiny_pipelines = sys.modules["tiny_pipelines"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny_pipelines)


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """{"flux": ..., "sd3": ...}: folders that tests only read."""
    root = tmp_path_factory.mktemp("diffusers")
    return {"flux": tiny_pipelines.flux(root / "flux"), "sd3": tiny_pipelines.sd3(root / "sd3")}


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
        encode_prompts(folder, made[kind], "cpu", __import__("torch").float32, 32)
    return made


@pytest.fixture
def policy_of(folders, encoded):
    """`policy_of(kind, **changes)` is a DiffusersPolicy with a LoRA of rank 4 on all blocks."""

    def make(kind, *, path=None, adapter=None, **changes):
        options = {"width": SIZE, "height": SIZE, "adapter": adapter or AdapterConfig(rank=4), "seed": 3, **changes}
        return DiffusersPolicy(DiffusersFolder(path or folders[kind]), encoded[kind], **options)

    return make
