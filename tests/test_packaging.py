"""What the pack asks to be installed is what it imports, and asks for no more than it must."""

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it

import mixgrpo_engine

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

# ComfyUI's own modules, which are on sys.path where the nodes run.
COMFYUI = {
    "comfy",
    "comfy_api",
    "comfy_execution",
    "comfyui_version",
    "execution",
    "folder_paths",
    "latent_preview",
    "nodes",
    "server",
}
# ComfyUI brings it, in the build that fits the card: nothing of the pack may ask for another.
TORCH = {"torch"}
# Packages whose module has another name.
MODULES = {"pillow": "PIL", "protobuf": "google"}
# transformers needs them to read a T5 tokenizer that is a spiece.model only. The pack itself doesn't import them.
FOR_TOKENIZERS = {"google", "sentencepiece"}


def required(lines):
    """Package -> its version bound, of the lines of a requirements file."""
    entries = [line.partition("#")[0].strip() for line in lines]
    return dict(re.fullmatch(r"([\w.-]+)(.*)", entry).groups() for entry in entries if entry)


REQUIREMENTS = required((ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines())
EXTRAS = {name: required(lines) for name, lines in PYPROJECT["project"]["optional-dependencies"].items()}


def imported(folder):
    """Top-level module -> a file that imports it, at its head or in a function, of the modules that aren't Python's."""
    found = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            else:
                continue
            for name in names:
                found.setdefault(name.partition(".")[0], path.relative_to(ROOT).as_posix())
    return {name: path for name, path in found.items() if name not in sys.stdlib_module_names}


def modules(packages):
    return {MODULES.get(package, package) for package in packages}


@pytest.mark.parametrize(("folder", "theirs"), [("mixgrpo_engine", TORCH), ("nodes", TORCH | COMFYUI)])
def test_everything_imported_is_required(folder, theirs):
    provided = theirs | modules(REQUIREMENTS).union(*map(modules, EXTRAS.values()))
    assert {name: path for name, path in imported(folder).items() if name not in provided} == {}


def test_nothing_is_required_that_isnt_imported():
    assert modules(REQUIREMENTS) - FOR_TOKENIZERS <= {*imported("mixgrpo_engine"), *imported("nodes")}


def test_torch_is_never_required():
    assert not [name for packages in (REQUIREMENTS, *EXTRAS.values()) for name in packages if name.startswith("torch")]


@pytest.mark.parametrize("packages", [REQUIREMENTS, *EXTRAS.values()], ids=["requirements.txt", *EXTRAS])
def test_there_are_lower_bounds_only(packages):
    assert packages and {name: bound for name, bound in packages.items() if not re.fullmatch(r">=[\d.]+", bound)} == {}


def test_the_extra_is_what_the_ocr_reward_asks_for():
    from mixgrpo_engine.rewards.ocr import PACKAGES

    assert sorted(PACKAGES.values()) == sorted(PYPROJECT["project"]["optional-dependencies"]["ocr"])


def test_the_engine_and_the_project_are_of_one_version():
    assert mixgrpo_engine.__version__ == PYPROJECT["project"]["version"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The folder with what `pip wheel .` puts into the wheel: built of a copy, since setuptools builds in place."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("mixgrpo_engine", "nodes", "tests"):
        shutil.copytree(ROOT / name, folder / "pack" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("__init__.py", "LICENSE", "pyproject.toml", "requirements.txt"):
        shutil.copy(ROOT / name, folder / "pack")
    # With the setuptools that is installed: a test asks no network for anything.
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "--no-deps", "-w", str(folder), str(folder / "pack")], check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


def test_the_wheel_is_the_engine_alone(wheel):
    """A package named nodes would take the place of ComfyUI's module."""
    assert {path.name for path in wheel.iterdir() if path.suffix != ".dist-info"} == {"mixgrpo_engine"}


def test_the_wheel_holds_all_of_the_engine(wheel):
    def files(folder):
        return {
            path.relative_to(folder).as_posix()
            for path in (folder / "mixgrpo_engine").rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }

    assert files(wheel) == files(ROOT)


def test_the_wheel_asks_for_the_requirements(wheel):
    (metadata,) = wheel.glob("*.dist-info/METADATA")
    wanted = [
        line.partition(": ")[2].replace(" ", "")
        for line in metadata.read_text(encoding="utf-8").splitlines()
        if line.startswith("Requires-Dist")
    ]
    assert [entry for entry in wanted if ";" not in entry] == [name + bound for name, bound in REQUIREMENTS.items()]
    assert len([entry for entry in wanted if "extra==" in entry]) == len(EXTRAS["ocr"])


def test_the_installed_engine_runs_from_another_folder(wheel, tmp_path):
    shown = subprocess.run(
        [sys.executable, "-m", "mixgrpo_engine", "--help"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(wheel)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "{train,evaluate,settings}" in shown.stdout
