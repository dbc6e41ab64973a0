"""A real ComfyUI server for all tests of this folder, and the graphs to queue in it."""

import contextlib
import importlib.util
import sys
from pathlib import Path

import pytest

from mixgrpo_engine.rewards.files import catalog
from tests.engine.rewards import tiny_published


def _load(name):
    # importlib mode puts no test folder on sys.path.
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"mixgrpo_test_{name}", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_graphs, _comfy_server = _load("graphs"), _load("comfy_server")


@pytest.fixture(scope="session")
def graphs():
    return _graphs


@pytest.fixture(scope="session")
def server(comfyui_dir, tmp_path_factory):
    """One server that all tests share: each uses run names of its own and ends its runs."""
    yield from _running(_comfy_server.ComfyServer(tmp_path_factory.mktemp("comfyui")))


@pytest.fixture(scope="session")
def first_graph():
    """Makes the graph of the run that many tests look at."""
    return lambda: _graphs.train("First run, \u00fcber all!", evaluate_every=1, seed=2**53 - 1)


@pytest.fixture(scope="session")
def first_run(server, first_graph):
    """(outputs of its prompt, run id, the mixgrpo.progress messages that an open socket got, what was loaded)."""
    before = len(server.traces())
    with server.socket() as messages:
        outputs = server.outputs(first_graph())
        run_id = server.run_id(outputs)
        server.wait(lambda: any(m["status"]["state"] == "finished" for m in messages(run_id)), "the last message", 10)
    return outputs, run_id, messages(run_id), server.traces()[before:]


@pytest.fixture
def published(server):
    """models/reward_models with tiny files under the published names; gone afterwards, since other tests miss them."""
    folder = server.base / "models" / "reward_models"
    tiny_published.write(folder)
    yield folder
    for file in catalog.FILES:
        (folder / file.name).unlink()


@pytest.fixture(scope="module")
def own_server(comfyui_dir, tmp_path_factory):
    """A server that a module may kill, with a GPU lock that counts on the CPU too, and little patience for a stop.

    Its console is as poor as they get.
    """
    base = tmp_path_factory.mktemp("own comfyui \u00fc")
    environment = {
        "MIXGRPO_GPU_LOCK": str(base / "gpu.lock"), "MIXGRPO_STOP_SECONDS": "4", "MIXGRPO_WORKERS": "4",
        "PYTHONIOENCODING": "ascii",
    }  # fmt: skip
    yield from _running(_comfy_server.ComfyServer(base, environment))


@pytest.fixture(scope="session")
def server_of(comfyui_dir):
    """`with server_of(base, packs) as server` has these packs beside ours: the test starts it."""

    @contextlib.contextmanager
    def make(base, packs):
        server = _comfy_server.ComfyServer(base, packs=packs)
        try:
            yield server
        finally:
            server.end_all_runs()
            server.stop()

    return make


def _running(server):
    server.start()
    try:
        yield server
    finally:
        server.end_all_runs()
        server.stop()
