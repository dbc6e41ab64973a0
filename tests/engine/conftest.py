import importlib.util
import os
import sys
from pathlib import Path

import pytest

# importlib mode puts no test folder on sys.path: the toy policy is loaded by its file.
_spec = importlib.util.spec_from_file_location("toy", Path(__file__).with_name("toy.py"))
sys.modules["toy"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(sys.modules["toy"])


# accelerate's launcher for several processes needs signals and a backend that Windows doesn't have.
collect_ignore = ["distributed"] if os.name == "nt" else []


@pytest.fixture(scope="session")
def toy():
    return sys.modules["toy"]
