"""Makes the job of a run (what job.json holds) out of the queued graph and the Train node's settings."""

from __future__ import annotations

import platform
from collections.abc import Sequence

from ... import mixgrpo_engine
from ...mixgrpo_engine.config import AdapterConfig, RunConfig, TrainConfig
from ...mixgrpo_engine.prompts import PromptSet
from . import graph

PACKS_FOLDER = "custom_nodes."

WITHOUT_EFFECT = ("checkpoint_every",)
"""Run settings that don't change what is trained: changing one doesn't make another run."""


def make(
    prompt, node_id: str, inputs: Sequence[str], *, prompts: PromptSet, algorithm, run_name: str, lora=None, **widgets
) -> dict:
    """prompt: ComfyUI's DynamicPrompt; inputs: those that the worker is to load; widgets: the Train node's others.

    Raises ValueError with one sentence for settings that can't work, before anything is started.
    """
    name = run_name.strip()
    if not name:
        raise ValueError("run_name is empty: give the run a name.")
    run = RunConfig(**{field: widgets[field] for field in RunConfig.__dataclass_fields__})
    config = TrainConfig(
        algorithm.rollout, algorithm.window, algorithm.loss, algorithm.optimizer, lora or AdapterConfig(), run
    )
    config.validate()
    cut = graph.cut(prompt, node_id, inputs)
    _refuse_nested_training(cut, node_id)
    settings = config.as_dict()
    texts = {"train": list(prompts.train), "held_out": list(prompts.held_out)}
    meaning = {
        "name": name,
        "prompts": texts,
        "config": {**settings, "run": {k: v for k, v in settings["run"].items() if k not in WITHOUT_EFFECT}},
    }
    return {
        "name": name,
        "fingerprint": graph.fingerprint(cut, node_id, meaning),
        "node_id": node_id,
        "graph": cut,
        "config": settings,
        "prompts": texts,
        "packs": packs(cut),
        "versions": versions(),
    }


def packs(cut: dict) -> list[str]:
    """Names under custom_nodes of the packs that the graph's nodes come from, as ComfyUI's whitelist wants them."""
    import nodes

    found = set()
    for node in cut.values():
        module = getattr(nodes.NODE_CLASS_MAPPINGS[node["class_type"]], "RELATIVE_PYTHON_MODULE", "") or ""
        if module.startswith(PACKS_FOLDER):
            name = module[len(PACKS_FOLDER) :]
            # A pack is a folder or a single file, and only ComfyUI knows which.
            found |= {name, f"{name}.py"}
    return sorted(found)


def versions() -> dict[str, str]:
    import comfyui_version
    import torch

    return {
        "mixgrpo": mixgrpo_engine.__version__,
        "comfyui": comfyui_version.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _refuse_nested_training(cut: dict, node_id: str) -> None:
    kind = cut[node_id]["class_type"]
    others = [other for other, node in cut.items() if other != node_id and node["class_type"] == kind]
    if others:
        raise ValueError(
            f"This Train node builds on another one (node {others[0]}): train that one first, then give its run's id "
            "to MixGRPO Apply Run instead of connecting it."
        )
