"""The templates for cards on a real server, through the worker: ComfyUI's own loaders over tiny files.

The files have the published names and layouts; see tests/published_models.py.
"""

import json

import numpy as np
import pytest
from PIL import Image

from scripts.card_templates import SD35_FOLDER, SOURCES
from scripts.comfyui_server import ROOT
from tests import published_models

FLUX, SD3 = "FluxClipModel_", "SD3ClipModel_"
# Template, changes of its loader, what the worker's log says of the text encoders and of the weights.
RUNS = [
    pytest.param("sd35_medium_16gb", {}, SD3, "torch.float32, manual cast: None", id="TripleCLIPLoader"),
    pytest.param("flux_dev_fp8_24gb", {}, FLUX, "torch.float32, manual cast: None", id="CheckpointLoaderSimple"),
    pytest.param(
        "flux_dev_48gb", {"weight_dtype": "fp8_e4m3fn"}, FLUX, "torch.float8_e4m3fn, manual cast: torch.float32",
        id="DualCLIPLoader, UNETLoader in fp8",
    ),
    pytest.param(
        "chroma_16gb", {}, "PixArtTEModel_", "torch.float32, manual cast: None", id="CLIPLoader, swapped blocks"
    ),
    pytest.param("diffusers_folder", {}, SD3, "torch.float32, manual cast: None", id="MixGRPO_DiffusersModel"),
]  # fmt: skip


@pytest.fixture(scope="module")
def models(server, comfy):
    models = server.base / "models"
    published_models.write(models, published_models.FILES)
    published_models.sd35_folder(models / "diffusers" / SD35_FOLDER)


def shortened(name):
    """The template's twin with as little of everything as it takes to see that all of it works."""
    graph = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))
    changes = {
        "MixGRPO_Prompts": {"text": "a red fox\na blue kite\na snowy village", "held_out": 1},
        "MixGRPO_Algorithm": {
            "preset": "custom", "steps": 4, "group_size": 3, "prompts_per_iteration": 1, "window_size": 1, "updates": 1,
            "learning_rate": 0.01,
        },
        "MixGRPO_Train": {"iterations": 1, "width": 64, "height": 64, "evaluate_every": 1, "evaluate_images": 1},
        "EmptySD3LatentImage": {"width": 64, "height": 64, "batch_size": 1},
        "KSampler": {"steps": 2},
    }  # fmt: skip
    for node in graph.values():
        node["inputs"] |= changes.get(node["class_type"], {})
    graph["tiny files"] = {"class_type": "Test_PassReward", "inputs": {"reward": ["8", 0]}}
    graph["11"]["inputs"]["watch"] = ["tiny files", 0]
    return graph


@pytest.mark.parametrize("name, loader, text_encoder, weights", RUNS)
def test_a_template_trains_and_samples_before_and_after(server, published, models, name, loader, text_encoder, weights):
    graph = shortened(name)
    graph["1"]["inputs"] |= loader
    swapped = name == "chroma_16gb"
    graph["11"]["inputs"]["swapped_blocks"] = int(swapped)
    outputs = server.outputs(graph)
    run_id = outputs["11"]["run_id"][0]
    run = server.run(run_id)
    assert run["state"] == "finished" and server.lora(run_id).exists()
    log = (server.folder(run_id) / "worker.log").read_text()
    assert f"Requested to load {text_encoder}" in log
    assert f"model weight dtype {weights}" in log
    assert "clip missing" not in log and "unet missing" not in log and "unet unexpected" not in log
    events = server.events(run_id)
    (step,) = [event for event in events if event["type"] == "iteration"]
    assert step["reward"].keys() == {"hps", "clip_score"} and None not in step["reward"].values()
    evaluations = [event for event in events if event["type"] == "evaluation"]
    assert len(evaluations) == 2 and all("image_reward" in json.dumps(event) for event in evaluations)
    (memory,) = [text for event in events if (text := event.get("message", "")).startswith("Memory, estimated: ")]
    assert ("1 of 2 blocks stay in host memory" in memory) == swapped
    # The LoRA acts on what the stock nodes sample.
    before, after = (picture(server, outputs[node]["images"][0]) for node in ("21", "22"))
    assert before.std() > 0 and (before != after).any()
    assert "lora key not loaded" not in server.log.read_text()


def picture(server, file):
    return np.array(Image.open(server.output / file["subfolder"] / file["filename"]))


def test_every_card_has_a_run_here():
    """Or is one that has, with other files and settings. Some differ in the node of their latents alone."""
    run_here = {run.values[0] for run in RUNS}
    others = {name: wiring(name) for name in SOURCES.keys() - run_here}
    assert others["wan22_5b_24gb"].pop("16") == ("Wan22ImageToVideoLatent", {"vae": ["13", 4]})
    assert others["flux2_klein_12gb"].pop("16") == ("EmptyFlux2LatentImage", {})
    for name, nodes in others.items():
        assert any(nodes.items() <= wiring(other).items() for other in run_here), name


def wiring(name):
    """Kind and links of each node."""
    nodes = shortened(name).items()
    return {
        key: (node["class_type"], {name: value for name, value in node["inputs"].items() if isinstance(value, list)})
        for key, node in nodes
    }
