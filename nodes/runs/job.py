"""Makes the job of a run (what job.json holds) out of the queued graph and the Train node's settings."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Sequence
from typing import Any

from ... import mixgrpo_engine
from ...mixgrpo_engine.config import SETTINGS, AdapterConfig, RunConfig, TrainConfig
from ...mixgrpo_engine.prompts import PromptSet
from .. import item_files
from ..comfy_types import DynamicPrompt
from ..model import start_lora
from . import graph, item_graph


def make(
    prompt: DynamicPrompt,
    node_id: str,
    inputs: Sequence[str],
    *,
    prompts: PromptSet,
    algorithm: TrainConfig,
    run_name: str,
    lora: AdapterConfig | None = None,
    **widgets: Any,
) -> dict:
    """prompt: ComfyUI's DynamicPrompt; inputs: those that the worker is to load; widgets: the Train node's others.


    Raises ValueError with one sentence for settings that can't work, before anything is started.
    """
    name = run_name.strip()
    if not name:
        raise ValueError("run_name is empty: give the run a name.")
    # An optional widget may be missing in an API request.
    config = dataclasses.replace(algorithm, adapter=lora or algorithm.adapter, run=RunConfig())
    for each in SETTINGS:
        if each.group == "run" and each.field in widgets:
            each.put(config, widgets[each.field])
    config.validate()
    cut = graph.cut(prompt, node_id, inputs)
    _require_links(cut[node_id]["inputs"], cut)
    guided, negative = config.rollout.cfg != 1, config.run.negative_prompt
    cut = item_graph.leaves(cut, node_id, prompt.get_node(node_id)["inputs"].get("prompts"), guided, negative)
    if "watch" in cut[node_id]["inputs"] and not config.run.evaluate_every:
        raise ValueError("watch is connected but evaluate_every is 0: set it above 0, or nothing would be watched.")
    _refuse_nested_training(cut, node_id)
    settings = config.as_dict()
    made = {
        "name": name,
        "node_id": node_id,
        "graph": cut,
        "config": settings,
        "prompts": prompts.as_dict(item_files.root()),
        "versions": versions(),
    }
    if config.adapter.start_from:
        made["start_sha256"] = start_lora.sha256(config.adapter.start_from)
    return {**made, "fingerprint": fingerprint(made)}


def fingerprint(made: dict, iterations: int | None = None) -> str:
    """What tells a job's run from others; iterations: of a job that is the same but for them."""
    run = made["config"]["run"]
    settings = {**made["config"], "run": {**run, "iterations": iterations or run["iterations"]}}
    meaning = {"name": made["name"], "prompts": made["prompts"], "config": telling(settings)}
    if "start_sha256" in made:
        meaning["start_sha256"] = made["start_sha256"]
    return graph.fingerprint(made["graph"], made["node_id"], meaning)


def telling(settings: dict) -> dict:
    """The settings that tell runs apart: those that change the training and differ from the defaults.

    A resumed run takes new values of the others, e.g. after it ran out of memory. And a setting that a later version
    adds doesn't make other runs of the ones that are there.
    """
    kept: dict[str, dict] = {group: {} for group in settings}
    for each in SETTINGS:
        value = settings[each.group][each.field]
        if each.changes_training and value != each.default:
            kept[each.group][each.field] = value
    return {group: values for group, values in kept.items() if values}


def versions() -> dict[str, str]:
    import comfyui_version
    import torch

    return {
        "mixgrpo": mixgrpo_engine.__version__,
        "comfyui": comfyui_version.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _require_links(inputs: dict, cut: dict) -> None:
    for name, value in inputs.items():
        if not graph.is_link(value) or value[0] not in cut:
            raise ValueError(f"{name} of MixGRPO Train isn't connected: connect a node that loads it.")


def _refuse_nested_training(cut: dict, node_id: str) -> None:
    kind = cut[node_id]["class_type"]
    others = [other for other, node in cut.items() if other != node_id and node["class_type"] == kind]
    if others:
        raise ValueError(
            f"This Train node builds on another one (node {others[0]}): train that one first, then give its run's id "
            "to MixGRPO Apply Run instead of connecting it."
        )
