"""Real ComfyUI in this process, and the pack loaded as ComfyUI loads it."""

from __future__ import annotations

import importlib
import os
import sys
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACK = "custom_nodes_mixgrpo_benchmarks"


def folder() -> Path:
    """COMFYUI_DIR, or the ComfyUI that `make setup` made."""
    return Path(os.environ.get("COMFYUI_DIR") or ROOT / ".comfyui").expanduser().absolute()


def import_comfyui(cpu: bool = True) -> None:
    """Puts ComfyUI first on sys.path, so that `import nodes` is ComfyUI's; again does nothing.

    cpu: whether it computes there. Raises FileNotFoundError when there is no ComfyUI.
    """
    if not (folder() / "main.py").exists():
        raise FileNotFoundError(
            f"There is no ComfyUI in {folder()}: run `make setup`, or set COMFYUI_DIR to a ComfyUI folder."
        )
    if str(folder()) not in sys.path:
        sys.path.insert(0, str(folder()))
    import comfy.cli_args

    comfy.cli_args.args.cpu = cpu
    comfy.cli_args.args.disable_dynamic_vram = True  # as in a worker


def clip_tokenizer() -> Path:
    """The folder of the CLIP tokenizer that ComfyUI brings."""
    import_comfyui()
    import comfy.sd1_clip

    return Path(comfy.sd1_clip.__file__).parent / "sd1_tokenizer"


def node_module(name: str):
    """A module of nodes/. The pack gets a name of its own, since ComfyUI has a module `nodes` too.

    Without nodes/__init__.py, which is for a server and asks for what only that one needs.
    """
    for package, folder in ((PACK, ROOT), (f"{PACK}.nodes", ROOT / "nodes")):
        if package not in sys.modules:
            sys.modules[package] = types.ModuleType(package)
            sys.modules[package].__path__ = [str(folder)]
    return importlib.import_module(f"{PACK}.nodes.{name}")
