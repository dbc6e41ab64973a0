import importlib.util
from pathlib import Path

import pytest


@pytest.fixture
def toy():
    """The engine tests' small policy and its runs."""
    spec = importlib.util.spec_from_file_location("toy", Path(__file__).parent.parent / "engine" / "toy.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
