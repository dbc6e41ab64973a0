"""The nodes of neural rewards: they score as the engine does, and where their networks stay."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.engine.rewards import tiny_clips
from tests.engine.rewards import tiny_image_reward as tiny
from tests.engine.rewards.test_aesthetic import head as aesthetic_head

pytestmark = pytest.mark.usefixtures("models")


@pytest.fixture
def image_reward(neural, weights, models):
    """`image_reward(**changes)` executes the node on a tiny ImageReward in models/reward_models."""
    torch.save(tiny.tensors(), models / weights.KEY / "ImageReward.pt")
    tiny.write_vocab(models / weights.KEY)
    widgets = {"device": "default", "dtype": "auto", "batch_size": 2, "keep_loaded": False}
    files = {"weights": "ImageReward.pt", "vocab": "vocab.txt"}
    return lambda **changes: neural.MixGRPORewardImageReward.execute(**{**files, **widgets, **changes})[0]


def expected(images, prompts, room, models):
    engine = room("mixgrpo_engine.rewards.image_reward").ImageRewardReward
    folder = models / "reward_models"
    return engine(folder / "ImageReward.pt", folder).score(images, prompts)


def test_node_scores_like_the_engine_also_under_inference_mode(image_reward, room, models):
    images = torch.rand(3, 40, 50, 3, generator=torch.Generator().manual_seed(2))
    prompts = ["a red circle", "cat", ""]
    reward = image_reward()
    assert reward._module is None  # execute() has loaded nothing
    with torch.inference_mode():
        scores = reward.score(images, prompts)
    assert scores.tolist() == pytest.approx(expected(images, prompts, room, models).tolist(), abs=1e-5)
    assert scores.tolist() == reward.score(images, prompts).tolist()


def test_managed_by_comfyui(room, models, image_reward, comfy):
    """The way a GPU server goes, on the CPU as ComfyUI's device."""
    residence = room("nodes.rewards.residence")
    reward = image_reward()
    reward.residence = residence.ManagedResidence(reward.options)
    images = torch.rand(2, 32, 32, 3, generator=torch.Generator().manual_seed(3))
    loaded = comfy.model_management.current_loaded_models
    with torch.inference_mode():
        first = reward.score(images, ["cat", "sky"])
        held = [entry.model for entry in loaded if entry.model is reward.residence._patcher]
        assert len(held) == 1
        comfy.model_management.unload_all_models()
        again = reward.score(images, ["cat", "sky"])
    assert first.tolist() == again.tolist()
    assert first.tolist() == pytest.approx(expected(images, ["cat", "sky"], room, models).tolist(), abs=1e-5)


def test_same_files_and_settings_share_one_scorer(image_reward, models):
    first, second = image_reward(), image_reward()
    assert first is second
    assert image_reward(batch_size=3) is not first
    torch.save(tiny.tensors(1), models / "reward_models" / "ImageReward.pt")
    os.utime(models / "reward_models" / "ImageReward.pt", (1, 1))
    assert image_reward() is not first


def test_device_and_number_type(image_reward, room, monkeypatch):
    assert image_reward().options.dtype == "float32"
    assert image_reward(device="cpu", dtype="bfloat16").options.dtype == "bfloat16"
    own = room("mixgrpo_engine.rewards.networks.model_reward").OwnResidence
    residence, options = room("nodes.rewards.residence"), image_reward().options
    gpu = replace(options, device="cuda:0")
    assert isinstance(residence.residence(gpu), residence.ManagedResidence)
    assert isinstance(residence.residence(options), own)
    monkeypatch.setenv("MIXGRPO_WORKER", "somewhere")
    assert isinstance(residence.residence(gpu), own)


@pytest.mark.parametrize("name", ["HPS", "PickScore", "CLIPScore", "Aesthetic"])
def test_clip_nodes_score_like_the_engine(name, neural, room, models, comfyui_dir):
    """Each node on its published kind of file, made tiny."""
    folder, words = models / "reward_models", comfyui_dir / "comfy" / "sd1_tokenizer"
    hps = tiny_clips.saved(tiny_clips.open_clip_clip(), folder / "HPS_v2.1_compressed.pt")
    clip = tiny_clips.saved(tiny_clips.transformers_clip("gelu"), folder / "clip.safetensors")
    torch.save(aesthetic_head().state_dict(), folder / "aesthetic.pth")
    rewards = "mixgrpo_engine.rewards"
    widgets, expected = {
        "HPS": ({"weights": hps.name}, lambda: room(f"{rewards}.hps").HPSReward(hps, words)),
        "PickScore": ({"weights": clip.name}, lambda: room(f"{rewards}.pick_score").PickScoreReward(clip, words)),
        "CLIPScore": (
            {"weights": clip.name, "text_weights": "none", "activation": "gelu"},
            lambda: room(f"{rewards}.clip_score").ClipScoreReward(clip, words, activation="gelu"),
        ),
        "Aesthetic": (
            {"head": "aesthetic.pth", "clip": clip.name},
            lambda: room(f"{rewards}.aesthetic").AestheticReward(folder / "aesthetic.pth", clip),
        ),
    }[name]
    node = next(node for node in neural.NODES if node.define_schema().node_id == f"MixGRPO_Reward{name}")
    assert node.validate_inputs(**{key: value for key, value in widgets.items() if key != "activation"}) is True
    reward = node.execute(**widgets, device="cpu", dtype="float32", batch_size=2, keep_loaded=False)[0]
    images, prompts = tiny_clips.pictures(3, 40, 50), ["a red circle", "a cat", "a red circle"]
    scores = reward.score(images, prompts)
    assert scores.std() > 1e-3
    torch.testing.assert_close(scores, expected().score(images, prompts), atol=1e-5, rtol=1e-5)


def test_clip_similarity_takes_an_image_encoder_alone(neural, room, models):
    clip = tiny_clips.saved(tiny_clips.transformers_clip("gelu"), models / "clip_vision" / "eyes.safetensors")
    node, widgets = neural.MixGRPORewardCLIPSimilarity, {"weights": "clip_vision: eyes.safetensors"}
    assert node.validate_inputs(**widgets) is True and "nothing.pt" in node.validate_inputs(weights="nothing.pt")
    settings = {"activation": "gelu", "device": "cpu", "dtype": "float32", "batch_size": 2, "keep_loaded": False}
    reward = node.execute(**widgets, **settings)[0]
    assert node.execute(**widgets, **settings)[0] is reward, "two nodes share a network"
    images = tiny_clips.pictures(2, 40, 50)
    references = [room("mixgrpo_engine.rewards.references").References({"image": images[0]})] * 2
    scores = reward.score(images, ["a", "b"], references)
    expected = room("mixgrpo_engine.rewards.clip_similarity").ClipSimilarityReward(clip, activation="gelu")
    assert scores[0] == pytest.approx(1, abs=1e-5) and scores[1] < 0.999
    torch.testing.assert_close(scores, expected.score(images, ["a", "b"], references), atol=1e-5, rtol=1e-5)


def test_missing_transformers_is_one_sentence(image_reward, neural, monkeypatch):
    monkeypatch.setattr(neural.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="^ImageReward needs the Python package transformers: install it"):
        image_reward()


def test_every_widget_is_explained(neural):
    for node in neural.NODES:
        schema = node.define_schema()
        assert all(given.tooltip for given in (*schema.inputs, *schema.outputs))
        page = Path(__file__).parents[3] / "nodes" / "web" / "docs" / f"{schema.node_id}.md"
        text = page.read_text(encoding="utf-8")
        assert all(f"**{given.id}**" in text for given in schema.inputs), schema.node_id
    for node in (neural.MixGRPORewardHPS, neural.MixGRPORewardPickScore):
        assert "same prompt only" in node.define_schema().outputs[0].tooltip
