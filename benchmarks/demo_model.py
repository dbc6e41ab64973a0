"""The demo's model and settings in this process."""

from __future__ import annotations

import dataclasses
import json

import torch

from mixgrpo_engine.config import TrainConfig
from mixgrpo_engine.prompt_files import of_text
from mixgrpo_engine.prompts import split

from .comfyui import ROOT, import_comfyui, node_module
from .subject import Subject

WORKFLOW = ROOT / "workflows" / "api" / "shapes_alignment.json"


def load(own: bool = False) -> Subject:
    """The embedded model, the demo's prompts encoded, and the demo's settings.

    own: just those. Else what would make algorithms differ in more than the algorithm is left out: guidance, KL, the
    average of the adapter, several passes, and a learning rate that depends on the number of iterations.
    Raises FileNotFoundError when there is no ComfyUI.
    """
    import_comfyui()
    workflow = json.loads(WORKFLOW.read_text(encoding="utf-8"))
    given = _inputs(workflow, "MixGRPO_Prompts")
    prompts = split(of_text(given["text"]), given["held_out"], given["split_seed"])
    tiny = node_module("tiny.tiny_model")
    clip = node_module("tiny.text_encoder").load_clip(tiny.TEXT_ENCODER)
    with torch.no_grad():
        encoded = node_module("model.conditioning").encode_prompts(clip, [*prompts.train, *prompts.held_out])
    values = _settings(workflow)
    if not own:
        values["rollout"] |= {"cfg": 1.0}
        values["loss"] |= {"kl_weight": 0.0}
        values["optimizer"] |= {"schedule": "constant", "ema_decay": 0.0, "epochs": 1}
    return Subject(tiny.load_model(), tiny.load_vae(), encoded, prompts, TrainConfig.from_dict(values))


def _settings(workflow: dict) -> dict[str, dict]:
    """The workflow's settings, understood by the nodes themselves."""
    nodes = node_module("algorithm")
    algorithm = nodes.MixGRPOAlgorithm.execute(**_inputs(workflow, "MixGRPO_Algorithm")).result[0]
    adapter = nodes.MixGRPOLoRA.execute(**_inputs(workflow, "MixGRPO_LoRA")).result[0]
    train = _inputs(workflow, "MixGRPO_Train")
    values = {**algorithm.as_dict(), "adapter": dataclasses.asdict(adapter)}
    values["run"] = {name: train[name] for name in ("width", "height", "evaluate_images", "gradient_checkpointing")}
    return values


def _inputs(workflow: dict, kind: str) -> dict:
    """The settings of the workflow's one node of a kind, its wires left out."""
    inputs = next(node["inputs"] for node in workflow.values() if node["class_type"] == kind)
    return {name: value for name, value in inputs.items() if not isinstance(value, list)}
