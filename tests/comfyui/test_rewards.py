"""Scorers with a network on a real server: missing weights are refused at once, tiny ones score there."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from mixgrpo_engine.rewards.aesthetic import AestheticReward
from mixgrpo_engine.rewards.clip_score import ClipScoreReward
from mixgrpo_engine.rewards.files import catalog
from mixgrpo_engine.rewards.hps import HPSReward
from mixgrpo_engine.rewards.image_reward import ImageRewardReward
from mixgrpo_engine.rewards.pick_score import PickScoreReward
from scripts.comfyui_server import ROOT
from tests.engine.rewards import tiny_image_reward

WIDGETS = {"device": "default", "dtype": "auto", "batch_size": 0, "keep_loaded": False}


def sampled(kind, **files):
    """A group of images of the embedded model, scored by a reward node; its scores as text."""
    return {
        "model": {"class_type": "MixGRPO_TinyModel", "inputs": {}},
        "reward": {"class_type": kind, "inputs": {**WIDGETS, **files}},
        "algorithm": {
            "class_type": "MixGRPO_Algorithm",
            "inputs": {"steps": 4, "group_size": 3, "window_size": 2, "updates": 1},
        },
        "sample": {
            "class_type": "MixGRPO_GroupSample",
            "inputs": {
                "model": ["model", 0], "clip": ["model", 1], "vae": ["model", 2], "reward": ["reward", 0],
                "algorithm": ["algorithm", 0], "prompt": "a red circle", "width": 64, "height": 64,
            },
        },
        "show": {"class_type": "PreviewAny", "inputs": {"source": ["sample", 2]}},
    }  # fmt: skip


@pytest.fixture(scope="module")
def image_reward(server):
    """The widgets of a tiny ImageReward in the server's models/reward_models."""
    folder = server.base / "models" / "reward_models" / "tiny"
    folder.mkdir(parents=True)
    torch.save(tiny_image_reward.tensors(), folder / "ImageReward.pt")
    tiny_image_reward.write_vocab(folder)
    return {"weights": "tiny/ImageReward.pt", "vocab": "tiny/vocab.txt"}


@pytest.mark.parametrize(
    "value, sentence",
    [
        ("HPS_v2.1_compressed.pt", "put HPS_v2.1_compressed.pt of https://huggingface.co/xswu/HPSv2 (2.0 GB, Apache-"),
        ("download: HPS_v2.1_compressed.pt (2.0 GB, Apache-2.0)", "can allow its download by MIXGRPO_DOWNLOADS=1"),
        ("../../user/mixgrpo.key", "isn't the weights of HPS v2.1: choose a file of the list"),
        ("hub: xswu/HPSv2/../../x.pt", "isn't the weights of HPS v2.1: choose a file of the list"),
    ],
)
def test_unusable_weights_are_refused_when_they_are_posted(server, value, sentence):
    graph = server._with_defaults(sampled("MixGRPO_RewardHPS", weights=value))
    status, answer = server.request("POST", "/prompt", {"prompt": graph})
    assert status == 400
    (error,) = answer["node_errors"]["reward"]["errors"]
    assert sentence in error["details"] and "\n" not in error["details"]


def test_new_file_is_offered_after_a_refresh_and_scores_in_the_server(server, image_reward):
    spec = server.get("/object_info/MixGRPO_RewardImageReward")["MixGRPO_RewardImageReward"]["input"]["required"]
    assert image_reward["weights"] in spec["weights"][1]["options"]
    assert image_reward["vocab"] in spec["vocab"][1]["options"]
    outputs = server.outputs(sampled("MixGRPO_RewardImageReward", **image_reward))
    images = json.loads(outputs["show"]["text"][0])["images"]
    scores = [image["rewards"]["image_reward"] for image in images]
    assert len(scores) == len(set(scores)) == 3 and None not in scores


def test_unknown_device_is_one_sentence(server, image_reward):
    graph = sampled("MixGRPO_RewardImageReward", **image_reward)
    graph["reward"]["inputs"]["device"] = "cuda:9"
    status, answer = server.request("POST", "/prompt", {"prompt": server._with_defaults(graph)})
    if status == 400:  # newer ComfyUI looks at a combo's value itself
        assert "device" in answer["node_errors"]["reward"]["errors"][0]["details"]
    else:
        error = next(d for e, d in server.result(answer["prompt_id"])["status"]["messages"] if e == "execution_error")
        assert "device of MixGRPO Reward: ImageReward is 'cuda:9': choose default, cpu." in error["exception_message"]


def test_template_preference_scores_mixes_what_the_engine_gives(server, published, comfyui_dir):
    graph = json.loads((ROOT / "workflows" / "api" / "preference_scores.json").read_text(encoding="utf-8"))
    # All of them are kept: each file then tells its own scores.
    graph["16"]["inputs"]["top_k"] = 0
    files = server.outputs(graph)["17"]["images"]
    pictures = [Image.open(server.output / file["subfolder"] / file["filename"]) for file in files]
    entries = [json.loads(picture.text["mixgrpo_scores"]) for picture in pictures]
    images = torch.stack([torch.from_numpy(np.array(picture.convert("RGB"))) for picture in pictures]) / 255
    prompts = [graph["2"]["inputs"]["value"]] * len(images)

    words, clip = comfyui_dir / "comfy" / "sd1_tokenizer", published / catalog.CLIP_L.name
    scorers = {
        "hps": HPSReward(published / catalog.HPS.name, words),
        "pick_score": PickScoreReward(published / catalog.PICK_SCORE.name, words),
        "image_reward": ImageRewardReward(published / catalog.IMAGE_REWARD.name, published / catalog.BERT_VOCAB.name),
        "clip_score": ClipScoreReward(clip, words),
        "aesthetic": AestheticReward(published / catalog.AESTHETIC.name, clip),
    }
    weights = dict.fromkeys(scorers, 1.0) | {"aesthetic": 0.5}
    total = torch.zeros(8)
    for name, scorer in scorers.items():
        given = torch.tensor([entry["parts"][name] for entry in entries])
        # The files are rounded to 8 bits, what was scored is not.
        deviation = given.std(correction=0)
        assert (given - scorer.score(images, prompts)).abs().max() < 0.1 * deviation, name
        total += weights[name] / sum(weights.values()) * (given - given.mean()) / deviation
    assert [entry["score"] for entry in entries] == pytest.approx(total.tolist(), abs=1e-4)
    assert total.tolist() == sorted(total.tolist(), reverse=True)
