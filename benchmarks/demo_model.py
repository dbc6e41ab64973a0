"""The demo's model and settings in this process: real ComfyUI code on the CPU, the pack loaded as ComfyUI loads it."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mixgrpo_engine.config import TrainConfig
from mixgrpo_engine.prompt_files import of_text
from mixgrpo_engine.prompts import PromptSet, split

ROOT = Path(__file__).resolve().parent.parent
WORKFLOW = ROOT / "workflows" / "api" / "shapes_alignment.json"
PACK = "custom_nodes_mixgrpo_benchmarks"


@dataclass
class DemoModel:
    """The embedded model, the demo's prompts encoded, and the demo's settings."""

    model: Any  # ComfyUI's MODEL; it stays as it is, each policy trains a copy
    vae: Any
    encoded: Any
    prompts: PromptSet
    settings: TrainConfig

    def policy(self, config: TrainConfig):
        """A new ComfyPolicy with an untrained LoRA."""
        return node_module("model.policy").ComfyPolicy(
            self.model,
            self.vae,
            self.encoded,
            width=config.run.width,
            height=config.run.height,
            cfg=config.rollout.cfg,
            adapter=config.adapter,
            seed=config.run.seed,
            gradient_checkpointing=config.run.gradient_checkpointing,
        )


def load() -> DemoModel:
    """Raises FileNotFoundError when there is no ComfyUI."""
    import_comfyui()
    workflow = json.loads(WORKFLOW.read_text(encoding="utf-8"))
    given = _inputs(workflow, "MixGRPO_Prompts")
    prompts = split(of_text(given["text"]), given["held_out"], given["split_seed"])
    tiny = node_module("tiny.tiny_model")
    clip = node_module("tiny.text_encoder").load_clip(tiny.TEXT_ENCODER)
    with torch.no_grad():
        encoded = node_module("model.conditioning").encode_prompts(clip, [*prompts.train, *prompts.held_out])
    return DemoModel(tiny.load_model(), tiny.load_vae(), encoded, prompts, _settings(workflow))


def _settings(workflow: dict) -> TrainConfig:
    """The workflow's settings, understood by the nodes themselves.

    Left out is what would make algorithms differ in more than the algorithm: guidance, KL, the average of the adapter
    and a learning rate that depends on the number of iterations.
    """
    nodes = node_module("algorithm")
    algorithm = nodes.MixGRPOAlgorithm.execute(**_inputs(workflow, "MixGRPO_Algorithm")).result[0]
    adapter = nodes.MixGRPOLoRA.execute(**_inputs(workflow, "MixGRPO_LoRA")).result[0]
    train = _inputs(workflow, "MixGRPO_Train")
    values = {**algorithm.as_dict(), "adapter": dataclasses.asdict(adapter)}
    values["run"] = {name: train[name] for name in ("width", "height", "evaluate_images", "gradient_checkpointing")}
    values["rollout"] |= {"cfg": 1.0}
    values["loss"] |= {"kl_weight": 0.0}
    values["optimizer"] |= {"schedule": "constant", "ema_decay": 0.0}
    return TrainConfig.from_dict(values)


def _inputs(workflow: dict, kind: str) -> dict:
    """The settings of the workflow's one node of a kind, its wires left out."""
    inputs = next(node["inputs"] for node in workflow.values() if node["class_type"] == kind)
    return {name: value for name, value in inputs.items() if not isinstance(value, list)}


def import_comfyui() -> None:
    """Puts ComfyUI first on sys.path, in CPU mode, so that `import nodes` is ComfyUI's; again does nothing."""
    folder = Path(os.environ.get("COMFYUI_DIR") or ROOT / ".comfyui").expanduser().absolute()
    if not (folder / "main.py").exists():
        raise FileNotFoundError(
            f"There is no ComfyUI in {folder}: run `make setup`, or set COMFYUI_DIR to a ComfyUI folder."
        )
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    import comfy.cli_args

    comfy.cli_args.args.cpu = True


def clip_tokenizer() -> Path:
    """The folder of the CLIP tokenizer that ComfyUI brings."""
    import_comfyui()
    import comfy.sd1_clip

    return Path(comfy.sd1_clip.__file__).parent / "sd1_tokenizer"


def node_module(name: str):
    """A module of nodes/. The pack gets a name of its own, since ComfyUI has a module `nodes` too."""
    if PACK not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            PACK, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
        )
        pack = importlib.util.module_from_spec(spec)
        sys.modules[PACK] = pack
        spec.loader.exec_module(pack)
    return importlib.import_module(f"{PACK}.nodes.{name}")
