"""Prompts with pictures on a real server: what the user wires makes each item's conditioning, in the worker."""

import json

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from mixgrpo_engine.taste.votes import VoteSet

COLOURS = {"red": (200, 10, 10), "green": (10, 200, 10), "blue": (10, 10, 200)}
SIZES = {"red": (64, 64), "green": (96, 64), "blue": (64, 64)}
PROMPT = "make it brighter"


@pytest.fixture(scope="module")
def voted(server):
    """A set of votes for what is bright."""
    votes = VoteSet(server.output / "mixgrpo" / "votes" / "bright")
    for brightness in (0.2, 0.4, 0.6):
        sheet = votes.add(torch.stack([torch.full((64, 64, 3), brightness + more) for more in (0.0, 0.3)]), PROMPT)
        votes.vote(sheet.id, [[1], [0]])
    return "bright"


@pytest.fixture(scope="module")
def listed(server):
    """A list in the input folder: one prompt, three pictures beside it, a column, one text alone held out by none."""
    folder = server.base / "input" / "edits"
    folder.mkdir(parents=True)
    rows = []
    for name, colour in COLOURS.items():
        Image.new("RGB", SIZES[name], colour).save(folder / f"{name}.png")
        rows.append({"prompt": PROMPT, "image": f"{name}.png", "wish": f"more {name}", "id": 7})
    (folder / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return "edits/list.jsonl"


def editing(graphs, name, file, **settings):
    """A Kontext graph: the picture as reference latent of the prompt; a taste watches."""
    graph = graphs.train(name, prompts="", held_out=0, **settings)
    graph["model"] = {"class_type": "Test_Flux", "inputs": {}}
    graph["clip"]["inputs"]["width"] = 64
    graph["reward"] = {"class_type": "Test_Closeness", "inputs": {}}
    graph["prompts"]["inputs"]["file"] = file
    graph["taste"] = {"class_type": "MixGRPO_RewardTaste", "inputs": {"votes": "bright", "ask_every": 0}}
    graph |= {
        "item": {"class_type": "MixGRPO_Item", "inputs": {"prompts": ["prompts", 0], "column": "wish"}},
        "text": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["clip", 0], "text": ["item", 0]}},
        "picture": {"class_type": "VAEEncode", "inputs": {"vae": ["vae", 0], "pixels": ["item", 1]}},
        "reference": {
            "class_type": "ReferenceLatent",
            "inputs": {"conditioning": ["text", 0], "latent": ["picture", 0]},
        },
    }
    graph["train"]["inputs"] |= {
        "positive": ["reference", 0], "latent": ["picture", 0], "watch": ["taste", 0], "width": 128, "height": 128,
    }  # fmt: skip
    return graph


@pytest.fixture(scope="module")
def edited(server, graphs, listed, voted):
    """(run id, what was loaded) of a whole training."""
    before = len(server.traces())
    outputs = server.outputs(editing(graphs, "edits", listed, evaluate_every=2))
    return server.run_id(outputs), server.traces()[before:]


def test_a_training_on_items_ends_with_a_lora(server, edited):
    run = server.run(edited[0])
    assert (run["state"], run["iteration"]) == ("finished", 2)
    assert any(tensor.any() for name, tensor in load_file(server.lora(edited[0])).items() if "lora_B" in name)
    names = [f"{PROMPT} [{name}.png]" for name in COLOURS]
    assert run["prompts"]["train"] == names
    assert [event["name"] for event in server.events(edited[0]) if event["type"] == "stage"] == [
        "boot", "encode", "load", "train",
    ]  # fmt: skip


def test_an_image_has_the_size_of_its_items_latent(server, edited):
    notices = [event["message"] for event in server.events(edited[0]) if event["type"] == "notice"]
    assert "Each image has the size of its item's latent: 2 sizes, at most 96 x 64." in notices
    shown = [event for event in server.events(edited[0]) if event["type"] == "sample"][-1]["images"]
    made = {image["prompt"]: Image.open(server.output / "mixgrpo" / edited[0] / image["file"]).size for image in shown}
    assert made == {f"{PROMPT} [{name}.png]": size for name, size in SIZES.items()}


def test_a_taste_says_that_it_does_without_the_models_own_view(server, edited):
    notices = [event["message"] for event in server.events(edited[0]) if event["type"] == "notice"]
    assert sum("The taste judges by what the images look like alone" in notice for notice in notices) == 1


def test_loaders_run_once_for_all_items_and_in_the_worker(server, edited):
    loaded = [node for node, pid in edited[1]]
    assert {pid for _, pid in edited[1]} == {str(server.run(edited[0])["pid"])}
    # CLIP and VAE for the items, then what is trained with.
    assert sorted(loaded[:2]) == ["clip", "vae"] and sorted(loaded[2:]) == ["flux", "vae"]


def test_rewards_get_each_items_words_picture_and_columns(server, edited):
    told = set((server.output / "compared.txt").read_text().splitlines())
    means = {name: f"{sum(colour) / 3 / 255:.3f}" for name, colour in COLOURS.items()}
    assert told <= {f"{PROMPT}|more {name}|{means[name]}" for name in COLOURS} and told


def test_a_run_that_goes_on_takes_the_items_that_it_has(server, graphs, listed, edited):
    before = len(server.traces())
    outputs = server.outputs(editing(graphs, "edits", listed, evaluate_every=2, iterations=3))
    assert server.run_id(outputs) == edited[0] and server.run(edited[0])["iteration"] == 3
    assert sorted(node for node, _ in server.traces()[before:]) == ["flux", "vae"]


def test_two_processes_share_items_of_several_sizes(server, graphs, listed, voted):
    graph = editing(graphs, "edits of two", listed, evaluate_every=1, processes=2)
    graph["algorithm"]["inputs"]["prompts_per_iteration"] = 2
    run_id = server.run_id(server.outputs(graph))
    events = server.events(run_id)
    assert server.run(run_id)["state"] == "finished" and server.lora(run_id).exists()
    assert all(len(event["scores"]) == 3 for event in events if event["type"] == "evaluation")
    graph["train"]["inputs"] |= {"processes": 1, "run_name": "edits of one"}
    assert "set prompts_per_iteration to 1" in server.error(graph)["exception_message"]


def test_an_item_without_what_a_node_wants_fails_the_run_with_its_name(server, graphs, listed):
    graph = editing(graphs, "no masks", listed, evaluate_every=2)
    graph["fill"] = {
        "class_type": "InpaintModelConditioning",
        "inputs": {
            "positive": ["text", 0], "negative": ["text", 0], "vae": ["vae", 0], "pixels": ["item", 1],
            "mask": ["item", 2], "noise_mask": False,
        },
    }  # fmt: skip
    graph["train"]["inputs"]["positive"] = ["fill", 0]
    error = server.error(graph)["exception_message"]
    assert f"positive of MixGRPO Train got nothing for item '{PROMPT} [red.png]': it has no mask" in error
