"""Where weights come from: folders, the hub's cache, an offered download; and what is refused."""

import importlib.util
import os
import sys

import pytest
import torch
from safetensors.torch import save_file

from tests.engine.rewards import tiny_clips
from tests.engine.rewards import tiny_image_reward as tiny

pytestmark = pytest.mark.usefixtures("models")


def put(folder, name, content=b"x"):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return folder / name


def cache(tmp_path, repo, path, revision="main"):
    """A file as huggingface_hub keeps it."""
    folder = tmp_path / "hf" / "hub" / f"models--{repo.replace('/', '--')}"
    commit = revision if len(revision) == 40 else "1" * 40
    put(folder, f"refs/{revision}" if revision == "main" else f"refs/{commit}", commit.encode())
    return put(folder, f"snapshots/{commit}/{path}")


# --- the folder ---------------------------------------------------------------------------------------------------


def test_importing_registers_the_folder(weights, models, monkeypatch):
    import folder_paths

    folder_paths.folder_names_and_paths.pop(weights.KEY)
    spec = importlib.util.spec_from_file_location(f"{weights.__package__}.weights_again", weights.__file__)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    assert folder_paths.get_folder_paths(weights.KEY) == [str(models / weights.KEY)]


@pytest.mark.parametrize("yaml_first", [True, False])
def test_roots_of_extra_model_paths_stay_whatever_the_order(weights, models, tmp_path, yaml_first):
    import folder_paths

    def register():
        weights.register_folder()

    def load_yaml():
        folder_paths.add_model_folder_path(weights.KEY, str(tmp_path / "big disk"))

    folder_paths.folder_names_and_paths.pop(weights.KEY)
    for step in (load_yaml, register) if yaml_first else (register, load_yaml):
        step()
    put(tmp_path / "big disk", "HPS_v2.1_compressed.pt")
    put(tmp_path / "big disk", "notes.md")
    put(models / weights.KEY, "sub/hps.safetensors")
    assert set(folder_paths.get_folder_paths(weights.KEY)) == {str(tmp_path / "big disk"), str(models / weights.KEY)}
    names = folder_paths.get_filename_list(weights.KEY)
    assert names == ["HPS_v2.1_compressed.pt", os.path.join("sub", "hps.safetensors")]
    assert weights.find(weights.HPS, "HPS_v2.1_compressed.pt") == tmp_path / "big disk" / "HPS_v2.1_compressed.pt"
    assert weights.find(weights.HPS, "sub/hps.safetensors") == models / weights.KEY / "sub" / "hps.safetensors"


# --- what is offered ----------------------------------------------------------------------------------------------


def test_a_widget_offers_what_may_fit(weights, models):
    for name in ("a finetune.safetensors", "HPS_v2.1_compressed.pt", "ImageReward.pt", "bert-vocab.txt", "readme.md"):
        put(models / weights.KEY, name)
    put(models / "clip_vision", "clip_vit_l.safetensors")
    put(models / "clip_vision", "siglip.safetensors")
    put(models / "text_encoders", "clip_l.safetensors")
    put(models / "text_encoders", "t5xxl.safetensors")
    assert weights.choices(weights.HPS) == ["HPS_v2.1_compressed.pt", "a finetune.safetensors"]
    assert weights.choices(weights.IMAGE_REWARD) == ["ImageReward.pt", "a finetune.safetensors"]
    assert weights.choices(weights.BERT_VOCAB) == ["bert-vocab.txt"]
    assert weights.choices(weights.CLIP)[:2] == ["a finetune.safetensors", "clip_vision: clip_vit_l.safetensors"]
    assert weights.choices(weights.CLIP_TEXT)[:2] == ["none", "text_encoders: clip_l.safetensors"]


def test_what_is_something_else_inside_is_not_offered_whatever_its_name(weights, models):
    clip, old = models / weights.KEY / "model.safetensors", models / weights.KEY / "HPS_v2_compressed.pt"
    tiny_clips.saved(tiny_clips.transformers_clip(), clip)
    torch.save(tiny.tensors(), models / weights.KEY / "weights.pt")
    torch.save(tiny_clips.open_clip_clip().state_dict(), old)
    t5 = {"encoder.block.0.layer.0.SelfAttention.q.weight": torch.zeros(1)}
    save_file(t5, models / "text_encoders" / "text.safetensors")
    assert weights.choices(weights.HPS) == weights.choices(weights.PICK_SCORE)[:1] == ["model.safetensors"]
    assert weights.choices(weights.IMAGE_REWARD) == ["weights.pt"]
    assert weights.choices(weights.AESTHETIC) == ["sac+logos+ava1-l14-linearMSE.pth"]
    assert weights.choices(weights.CLIP_TEXT) == ["none"]


def test_what_is_something_else_is_named_when_it_is_queued(weights, models):
    torch.save(tiny.tensors(), models / weights.KEY / "weights.pt")
    torch.save(tiny_clips.open_clip_clip().state_dict(), models / weights.KEY / "HPS_v2_compressed.pt")
    choose = "choose HPS_v2.1_compressed.pt of https://huggingface.co/xswu/HPSv2."
    assert weights.is_usable(weights.HPS, "weights.pt") == f"weights.pt is ImageReward, not HPS v2.1: {choose}"
    assert weights.is_usable(weights.HPS, "HPS_v2_compressed.pt") == (
        f"HPS_v2_compressed.pt is HPS v2.0 by its name, not HPS v2.1: {choose}"
    )


def test_nothing_there_offers_the_missing_name(weights):
    assert weights.choices(weights.HPS) == ["HPS_v2.1_compressed.pt"]
    assert weights.choices(weights.CLIP_TEXT) == ["none"]
    assert weights.find(weights.CLIP_TEXT, "none") is None


@pytest.mark.parametrize("owner", ["environment", "file"])
def test_downloads_are_offered_only_with_the_owners_leave(weights, models, tmp_path, monkeypatch, owner):
    offer = "download: HPS_v2.1_compressed.pt (2.0 GB, Apache-2.0)"
    assert weights.choices(weights.HPS) == ["HPS_v2.1_compressed.pt"]
    if owner == "environment":
        monkeypatch.setenv("MIXGRPO_DOWNLOADS", "1")
    else:
        put(tmp_path / "user", "mixgrpo.json", b'{"downloads": true}')
    assert weights.choices(weights.HPS) == ["HPS_v2.1_compressed.pt", offer]
    put(models / weights.KEY, "HPS_v2.1_compressed.pt")
    assert weights.choices(weights.HPS) == ["HPS_v2.1_compressed.pt"]


def test_broken_settings_break_no_listing(weights, tmp_path):
    put(tmp_path / "user", "mixgrpo.json", b"{")
    assert weights.choices(weights.HPS) == ["HPS_v2.1_compressed.pt"]
    assert "can't be read as JSON" in weights.is_usable(weights.HPS, "download: HPS_v2.1_compressed.pt (2.0 GB)")


@pytest.mark.parametrize("revision", ["main", "pinned"])
def test_the_hubs_cache_is_looked_into(weights, tmp_path, revision):
    file = weights.IMAGE_REWARD.known
    assert weights.choices(weights.IMAGE_REWARD) == ["ImageReward.pt"]
    path = cache(tmp_path, "THUDM/ImageReward", file.path, file.revision if revision == "pinned" else "main")
    assert weights.choices(weights.IMAGE_REWARD) == ["hub: THUDM/ImageReward/ImageReward.pt"]
    assert weights.find(weights.IMAGE_REWARD, "hub: THUDM/ImageReward/ImageReward.pt").samefile(path)


# --- what is refused ----------------------------------------------------------------------------------------------


def test_missing_file_is_named_with_folder_source_and_size(weights):
    said = weights.is_usable(weights.HPS, "HPS_v2.1_compressed.pt")
    assert said == (
        "The weights of HPS v2.1, HPS_v2.1_compressed.pt, isn't in ComfyUI's models/reward_models: put "
        "HPS_v2.1_compressed.pt of https://huggingface.co/xswu/HPSv2 (2.0 GB, Apache-2.0) there, or choose another "
        "file."
    )
    assert "model.safetensors of https://huggingface.co/yuvalkirstain/PickScore_v1 (3.9 GB, MIT) there as " in (
        weights.is_usable(weights.PICK_SCORE, "PickScore_v1.safetensors")
    )
    assert weights.is_usable(weights.CLIP_TEXT, "text_encoders: clip_l.safetensors").endswith(
        "put it there, or choose another file."
    )
    assert "fetch it with `hf download xswu/HPSv2" in weights.is_usable(
        weights.HPS, "hub: xswu/HPSv2/HPS_v2.1_compressed.pt"
    )


@pytest.mark.parametrize(
    "value",
    [
        "../secret.pt", "sub/../../secret.pt", "..\\secret.pt", "/etc/secret.pt", "C:\\secret.pt", "\\\\host\\x.pt",
        "clip_vision: x.pt", "text_encoders: clip_l.safetensors", "custom_nodes: x.pt", "clip_vision: ../x.pt",
        "hub: someone/else/model.pt", "hub: xswu/HPSv2/../../x.pt", "hub: ", "download: other.pt (1 GB)", "download: ",
        "download: http://10.0.0.1/x.pt", "http://10.0.0.1/x.pt", "notes.txt", "", "none",
    ],
)  # fmt: skip
def test_strange_values_are_refused(weights, models, tmp_path, monkeypatch, value):
    monkeypatch.setenv("MIXGRPO_DOWNLOADS", "1")
    for folder in (models, models / weights.KEY, models / "clip_vision", models / "text_encoders", tmp_path):
        put(folder, "secret.pt")
        put(folder, "notes.txt")
        put(folder, "clip_l.safetensors")
    said = weights.is_usable(weights.HPS, value)
    assert isinstance(said, str) and said.endswith(".") and "\n" not in said
    with pytest.raises(ValueError):
        weights.find(weights.HPS, value)


@pytest.mark.parametrize("value", [5, 1.5, True, {"a": 1}, ["hps.pt"]])
def test_what_is_no_text_is_refused_in_a_sentence(weights, value):
    said = "The weights of HPS v2.1 must be the name of a file: choose one of the list."
    assert weights.is_usable(weights.HPS, value) == said
    assert weights.stamp(weights.HPS, value) == (value,)
    with pytest.raises(ValueError, match="must be the name of a file"):
        weights.find(weights.HPS, None)


def test_validation_says_what_is_missing_and_lets_links_pass(neural, models, weights):
    node = neural.MixGRPORewardImageReward
    put(models / weights.KEY, "ImageReward.pt")
    assert node.validate_inputs(weights="ImageReward.pt", vocab=None) is True
    assert "bert-base-uncased" in node.validate_inputs(weights="ImageReward.pt", vocab="vocab.txt")
    assert "ImageReward, other.pt," in node.validate_inputs(weights="other.pt", vocab="vocab.txt")


def test_fingerprint_follows_the_file(neural, models, weights):
    node, options = neural.MixGRPORewardHPS, {"device": "cpu", "batch_size": 4}
    missing = node.fingerprint_inputs(weights="hps.pt", **options)
    put(models / weights.KEY, "hps.pt")
    there = node.fingerprint_inputs(weights="hps.pt", **options)
    put(models / weights.KEY, "hps.pt", b"another")
    assert len({str(x) for x in (missing, there, node.fingerprint_inputs(weights="hps.pt", **options))}) == 3
    assert node.fingerprint_inputs(weights="hps.pt", **options) == node.fingerprint_inputs(weights="hps.pt", **options)
