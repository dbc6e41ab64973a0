"""Fixtures of the node tests: the pack's modules, a policy over a tiny model, stock sampling, and a run's folder."""

import importlib
import json
from types import SimpleNamespace

import pytest

from tests.nodes import tiny_models
from tests.nodes.sampling import sampling_graph


@pytest.fixture(scope="session")
def room(pack):
    """`room("nodes.model.policy")` is that module of the pack, as ComfyUI would import it."""
    return lambda name: importlib.import_module(f"{pack.__name__}.{name}")


@pytest.fixture(params=["sd3", "flux"])
def build(request, comfy):
    """Builds a fresh tiny MODEL; tests that take it run once for SD3 and once for FLUX."""
    return getattr(tiny_models, request.param)


@pytest.fixture(scope="session")
def vae(comfy):
    return tiny_models.vae()


@pytest.fixture(scope="module")
def clip(comfy):
    return tiny_models.clip()


@pytest.fixture
def conditioning(room):
    return room("nodes.model.conditioning")


@pytest.fixture
def encoded(room):
    """Three prompts, the third one longer, and the negative prompt, longest of all."""
    return room("nodes.model.conditioning").Encoded(
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

    def make(model, vae=vae, *, rank=4, alpha=0.0, targets="", exclude="", dtype="float32", start_from="", **changes):
        layers = {"targets": targets, "exclude": exclude, "start_from": start_from}
        adapter = room("mixgrpo_engine.config").AdapterConfig(rank, alpha, dtype=dtype, **layers)
        size = {"width": tiny_models.SIZE, "height": tiny_models.SIZE}
        return room("nodes.model.policy").ComfyPolicy(
            model, vae, encoded, **{**size, "adapter": adapter, "seed": 3, **changes}
        )

    return make


@pytest.fixture(scope="module")
def graph(request, room):
    """The embedded model in stock sampling nodes, with the test module's PROMPT."""
    return sampling_graph.Graph(room, request.module.PROMPT)


@pytest.fixture(scope="module")
def sampling(room):
    """The sampling nodes' classes by their names."""
    return SimpleNamespace(**{node.__name__: node for node in room("nodes.sampling").NODES})


@pytest.fixture(scope="module")
def sigmas(request, sampling, graph):
    """The embedded model's own schedule of the test module's STEPS."""
    return sampling.MixGRPOSigmas.execute(graph.model, request.module.STEPS, 0.0, 1.0, 0, 4).result[0]


@pytest.fixture
def all_progress(comfy, monkeypatch):
    """Every step of a progress bar reaches its hook: newer ComfyUI drops those that follow too fast."""
    import comfy.utils

    monkeypatch.setattr(comfy.utils, "PROGRESS_THROTTLE_MIN_INTERVAL", 0.0, raising=False)
    monkeypatch.setattr(comfy.utils, "PROGRESS_THROTTLE_MIN_PERCENT", 0.0, raising=False)


@pytest.fixture
def runs(room, tmp_path, monkeypatch):
    """The package nodes.runs with its modules, over an empty output folder."""
    import folder_paths

    for name in (
        "about", "actions", "cancel", "columns", "curve", "denoising", "event_lines", "follow", "gallery", "history",
        "job", "kept_copy", "kept_history", "launch", "liveness", "locks", "log_tail", "news", "overview", "paths",
        "preset_differences", "process",
        "published_lora", "remove", "report_page", "routes", "save", "signature", "stored",
        "stored_prompts", "submit", "sweep", "turns", "wait", "workflow",
    ):  # fmt: skip
        room(f"nodes.runs.{name}")
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    monkeypatch.setattr(folder_paths, "user_directory", str(tmp_path / "user"))
    return room("nodes.runs")


@pytest.fixture
def folder(runs):
    """The folder of a run that was never started, with a signed job."""
    made = runs.paths.folder_of("some-run-12345678")
    made.create()
    job = {"name": "Some run", "fingerprint": "f", "run_id": made.name, "config": {"run": {"iterations": 3}}}
    made.job.write_text(json.dumps(runs.signature.signed({**job, "graph": {}}, runs.signature.install_key())))
    return made
