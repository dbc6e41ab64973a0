"""Shared fixtures: a real ComfyUI in this process (CPU) and the pack as ComfyUI would load it."""

import contextlib
import importlib.util
import os
import sys
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parent.parent
ENGINE = ROOT / "tests" / "engine"
REWARDS = ENGINE / "rewards"

# Before torch is imported, and for every process that a test starts: several run side by side on the same cores, and
# for tensors as tiny as the tests' the threads of one process cost more than they bring.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# More than a hundred processes import the same ComfyUI and pack: compiled once, not in each, whatever the machine says.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def pytest_collection_modifyitems(items):
    """Folders of many short files last: no process then waits long for another one's last file."""
    items.sort(key=lambda item: (ENGINE in item.path.parents, REWARDS in item.path.parents))


_interrupted: list[psutil.Process] = []


def pytest_keyboard_interrupt():
    """Notes the servers, workers and browsers that are at work when somebody presses Ctrl-C."""
    _interrupted.extend(psutil.Process().children(recursive=True))


def pytest_unconfigure():
    """Ends those that are left: pytest-xdist gives the fixtures of its processes ten seconds to do it."""
    for process in _interrupted:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()


@pytest.fixture(scope="session")
def comfyui_dir() -> Path:
    """ComfyUI's folder: COMFYUI_DIR, or the one that `make setup` made."""
    folder = Path(os.environ.get("COMFYUI_DIR") or ROOT / ".comfyui")
    if not (folder / "main.py").exists():
        pytest.fail(f"There is no ComfyUI in {folder}: run `make setup`, or set COMFYUI_DIR to a ComfyUI folder.")
    return folder


@pytest.fixture(scope="session")
def comfy(comfyui_dir):
    """The package `comfy`, imported in CPU mode. First on sys.path, so that `import nodes` is ComfyUI's."""
    sys.path.insert(0, str(comfyui_dir))
    import comfy.cli_args

    comfy.cli_args.args.cpu = True
    import comfy.model_management
    import comfy.sd

    return sys.modules["comfy"]


@pytest.fixture(scope="session")
def pack(comfy):
    """This pack, loaded from its folder under a name that no import would guess, as ComfyUI does it."""
    name = "custom_nodes_mixgrpo_under_test"
    spec = importlib.util.spec_from_file_location(name, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    for room in ("nodes", "nodes.runs", "mixgrpo_engine"):
        importlib.import_module(f"{name}.{room}")
    return module
