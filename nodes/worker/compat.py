"""The only file that touches ComfyUI's internals: the boot of a headless ComfyUI, one recipe for 0.3.75 to 0.33."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.abc
import importlib.metadata
import logging
import os
import sys
import types
import uuid
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from pathlib import Path
from typing import Any

from ...mixgrpo_engine.records.readable import traceback_of, words_of
from ..comfy_types import PromptServer
from ..runs.packs import BUILT_IN
from .errors import GraphError, StopRequested

LOOKUPS = (KeyError, ImportError, ModuleNotFoundError, AttributeError, NameError)
"""What a node raises that misses another pack's nodes, folders or modules."""


def configure(comfyui: dict, scratch: Path, packs: list[str]) -> None:
    """Before anything of ComfyUI but its arguments is imported: paths, arguments, packs to load.

    comfyui: how the server was started (root, argv, sys_path). Arguments that a version doesn't know do no harm.
    """
    sys.path[:] = [comfyui["root"], *(path for path in comfyui["sys_path"] if path != comfyui["root"])]
    sys.argv[:] = comfyui["argv"]
    import comfy.options

    comfy.options.enable_args_parsing()
    from comfy.cli_args import args

    for name in (
        "auto_launch", "enable_manager", "enable_manager_legacy_ui", "enable_assets", "enable_asset_hashing",
        "enable_dynamic_vram", "debug_hang",
    ):  # fmt: skip
        setattr(args, name, False)
    for name in ("disable_dynamic_vram", "disable_assets", "disable_comfy_compiler", "disable_cuda_graphs"):
        setattr(args, name, True)
    args.database_url = "sqlite:///:memory:"
    args.front_end_root = str(scratch)
    args.disable_all_custom_nodes = True
    # A pack is a folder or a single file.
    args.whitelist_custom_nodes = [entry for name in packs for entry in (name, f"{name}.py")]
    if isinstance(args.verbose, list):
        # Newer versions keep (level, log file) pairs here: a log file is the server's own.
        args.verbose = [entry for entry in args.verbose if not (isinstance(entry, tuple) and entry[1])]


def uses_gpu() -> bool:
    """Whether ComfyUI will compute on a GPU that other processes may use too.

    ComfyUI needs one unless it is told otherwise; asking torch would import it before ComfyUI has set it up.
    """
    from comfy.cli_args import args

    return not args.cpu


def gpus(count: int = 1) -> list[str]:
    """Names for the GPUs that a training in so many processes computes on: the first that ComfyUI may see; [] for none.

    The server has turned its own choice (--cuda-device, --oneapi-device-selector) into environment variables.
    """
    from comfy.cli_args import args

    if not uses_gpu():
        return []
    directml = getattr(args, "directml", None)
    if directml is not None:
        return [f"directml:{max(directml, 0)}"]  # -1: the first one
    builds, variables = "", ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        if "+xpu" in importlib.metadata.version("torch"):
            builds, variables = "xpu:", ("ONEAPI_DEVICE_SELECTOR", "ZE_AFFINITY_MASK")
    chosen = next(filter(None, map(os.environ.get, variables)), "")
    names = [name.strip() for name in chosen.split(",")] if chosen else [str(number) for number in range(count)]
    return [builds + (name or "0") for name in names[:count]]


def boot(scratch: Path, packs: list[str]) -> Comfy:
    """Imports ComfyUI, loads its nodes and the configured packs, and readies everything but the web server.

    packs: of ComfyUI's own files of nodes only those are loaded that are among them.
    """
    sys.meta_path.insert(0, _LoadedWhenUsed())
    gc.disable()  # a seventh of the start: nothing of what is imported here becomes garbage
    # Before all others: it adds the model folders and runs the packs' prestartup scripts.
    comfy_main = importlib.import_module("main")

    import execution
    import folder_paths
    import nodes
    import server

    # The server empties its temporary folder at its start and end: the worker has one of its own.
    folder_paths.set_temp_directory(str(scratch))
    execution.torch = _TorchWithoutInference(execution.torch)
    nodes.NODE_CLASS_MAPPINGS = types_of_nodes = _NodeTypes(nodes.NODE_CLASS_MAPPINGS)
    load = nodes.load_custom_node

    async def load_wanted(path: str, *args: Any, **kwargs: Any) -> bool:
        name = f"{Path(path).parent.name}.{Path(path).stem}"
        return True if name.startswith(BUILT_IN) and name not in packs else await load(path, *args, **kwargs)

    nodes.load_custom_node = load_wanted

    class SilentServer(server.PromptServer):
        def send_sync(self, event: Any, data: Any, sid: str | None = None) -> None:
            """Nobody listens: the worker speaks through its event log."""

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    prompt_server = SilentServer(loop, *_manager_of_assets())
    prompt_server.last_prompt_id = None
    loop.run_until_complete(nodes.init_extra_nodes(init_custom_nodes=True, init_api_nodes=False))
    comfy_main.hijack_progress(prompt_server)
    gc.freeze()
    gc.enable()
    return Comfy(prompt_server, types_of_nodes)


def _manager_of_assets() -> tuple:
    """What newer versions' server wants beside its loop: a manager of assets, here one that has none."""
    try:
        manager = importlib.import_module("app.assets.manager")
    except ImportError:
        return ()
    from comfy.cli_args import args

    return (manager.NoAssets(args),)


class Comfy:
    """A booted ComfyUI that executes graphs."""

    def __init__(self, prompt_server: PromptServer, types_of_nodes: _NodeTypes) -> None:
        self._server, self._types = prompt_server, types_of_nodes

    def pack_of(self, class_type: str, log: Path) -> str:
        """The name of the package that ComfyUI has loaded the pack of a node under."""
        return self.node_class(class_type, log).__module__.rsplit(".", 2)[0]

    def node_class(self, class_type: str, log: Path) -> type[Any]:
        if class_type not in self._types:
            raise self._failed(
                f"The node type '{class_type}' is missing in the worker: its pack could not be loaded there. "
                f"The reason is in {log}.",
                "ImportError",
            )
        return self._types[class_type]

    def output_types(self, class_type: str, log: Path) -> set[str]:
        return {str(kind) for kind in self.node_class(class_type, log).RETURN_TYPES}

    def executor(self) -> Any:
        """One for several graphs keeps what the next one has in common with the last."""
        import execution

        return execution.PromptExecutor(
            self._server, cache_type=execution.CacheType.CLASSIC, cache_args=_NoCacheArguments()
        )

    def execute(self, graph: dict, node_id: str, executor: Any = None) -> None:
        """Executes a node and what it needs. Raises GraphError when a node fails, StopRequested when interrupted.

        Without an executor of the caller's nothing keeps the results but who has stored them.
        """
        executor = executor or self.executor()
        try:
            executor.execute(graph, str(uuid.uuid4()), {}, [node_id])
        except LOOKUPS as error:  # of a node that was asked for its inputs only
            kind, message = type(error).__name__, f"A node couldn't be prepared: {words_of(error)}"
            raise self._failed(message, kind, "", traceback_of(error)) from None
        for event, data in executor.status_messages:
            if event == "execution_interrupted":
                raise StopRequested
            if event == "execution_error":
                kind, node = str(data.get("exception_type", "unknown error")), str(data.get("node_id", ""))
                said = str(data.get("exception_message", "")).strip() or kind
                message = f"Node {node} ({data.get('node_type', '')}): {said}"
                raise self._failed(message, kind, node, "".join(data.get("traceback") or []))
        if not executor.success:
            raise GraphError("ComfyUI couldn't execute the graph and gave no reason.")

    def _failed(self, message: str, kind: str, node_id: str = "", traceback: str = "") -> GraphError:
        """kind: the name of the error's class."""
        logging.error(message)
        return GraphError(message, node_id, traceback, self._types.missed, kind in {each.__name__ for each in LOOKUPS})

    def interrupt(self) -> None:
        """Stops the node at work at its next progress step. Called by a signal handler."""
        import nodes

        nodes.interrupt_processing(True)

    def free(self) -> None:
        """Gives back the memory of everything that nobody holds any more."""
        import comfy.model_management

        comfy.model_management.unload_all_models()
        gc.collect()
        comfy.model_management.soft_empty_cache()


class _LoadedWhenUsed(importlib.abc.MetaPathFinder):
    """What every ComfyUI imports for a sampler or scheduler that few trainings use: a tenth of a worker's start."""

    NAMES = frozenset({"scipy.integrate", "scipy.stats"})

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path) if name in self.NAMES else None
        if spec and spec.loader:
            spec.loader = LazyLoader(spec.loader)
        return spec


class _TorchWithoutInference(types.ModuleType):
    """The name `torch` in ComfyUI's executor: weights made under inference_mode could never be trained through."""

    def __init__(self, torch: types.ModuleType) -> None:
        super().__init__("torch")
        self._torch = torch
        self.inference_mode = torch.no_grad

    def __getattr__(self, name: str) -> Any:
        return getattr(self._torch, name)


class _NoCacheArguments(dict):
    """Versions ask for different settings of caches that aren't used here."""

    def __missing__(self, key: str) -> float:
        return 0.0


class _NodeTypes(dict):
    """ComfyUI's node types. It notes which were looked for in vain: they may be of a pack that only the server has."""

    def __init__(self, types_of_nodes: dict[str, type]) -> None:
        super().__init__(types_of_nodes)
        self.missed: set[str] = set()

    def __missing__(self, kind: str) -> type:
        self.missed.add(kind)
        raise KeyError(kind)

    def __contains__(self, kind: object) -> bool:
        there = super().__contains__(kind)
        if not there:
            self.missed.add(str(kind))
        return there

    def get(self, kind: str, default: Any = None) -> Any:
        return super().get(kind, default) if kind in self else default
