"""What a machine with nothing but torch needs for the check, in one folder: the pack, ComfyUI, a few packages."""

from __future__ import annotations

import importlib.metadata
import tarfile
from collections.abc import Iterator
from pathlib import Path

from ..comfyui import ROOT

ARCHIVE, COMMAND = "check.tar.gz", "run.sh"
LARGEST = 60 * 2**20  # bytes of the archive
PACK = ("__init__.py", "mixgrpo_engine", "nodes", "benchmarks", "tests/nodes/tiny_models", "workflows/api")
COMFYUI = (
    "main.py", "comfy", "comfy_api", "comfy_execution", "comfy_config", "utils", "folder_paths.py", "node_helpers.py",
    "nodes.py", "latent_preview.py", "comfyui_version.py", "protocol.py",
)  # fmt: skip
# In pure Python, and not on a machine that was made for torch and transformers. peft is one whose version matters.
PACKAGES = ("accelerate", "diffusers", "einops", "peft", "torchsde", "trampoline", "ftfy", "wcwidth")
SCRIPT = f"""#!/bin/sh
# Unpacks the check beside this file and runs it: sh {COMMAND} [options of `python -m benchmarks gpu`].
set -e
out="${{OUT:-$PWD/gpu-out}}"
cd "$(dirname "$0")"
tar xzf {ARCHIVE}
cd pack
export COMFYUI_DIR=../comfyui PYTHONPATH=../packages PYTHONUNBUFFERED=1
exec "${{PYTHON:-python3}}" -m benchmarks gpu --results "$out" "$@"
"""


def carry(folder: Path, comfyui: Path) -> Path:
    """Writes the archive and the command into the folder; the command's path. Raises ValueError if it is too large."""
    folder.mkdir(parents=True, exist_ok=True)
    archive, command = folder / ARCHIVE, folder / COMMAND
    with tarfile.open(archive, "w:gz", compresslevel=3) as packed:
        for name, path in (*_files("pack", ROOT, PACK), *_files("comfyui", comfyui, COMFYUI), *_packages()):
            packed.add(path, name, recursive=False)
    size = archive.stat().st_size
    if size > LARGEST:
        archive.unlink()
        raise ValueError(f"What {comfyui} and the pack need is {size >> 20} MB, and {LARGEST >> 20} MB is the most.")
    command.write_text(SCRIPT, encoding="utf-8", newline="\n")
    return command


def _files(name: str, root: Path, parts: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    """(name in the archive, file) of each file of some parts of a tree, links and what Python has compiled left out."""
    for part in parts:
        found = [root / part] if (root / part).is_file() else sorted((root / part).rglob("*"))
        for path in found:
            if path.is_file() and not path.is_symlink() and "__pycache__" not in path.parts:
                yield f"{name}/{path.relative_to(root).as_posix()}", path


def _packages() -> Iterator[tuple[str, Path]]:
    """The same for the files of the packages as they are installed here, with what tells their versions."""
    for package in PACKAGES:
        for file in importlib.metadata.files(package) or ():
            if ".." not in file.parts and file.suffix != ".pyc":
                yield f"packages/{file.as_posix()}", Path(str(file.locate()))
