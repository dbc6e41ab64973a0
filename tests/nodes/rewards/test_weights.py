"""Where weights come from: folders, the hub's cache, downloads with the owner's leave; and what is refused."""

import hashlib
import importlib.util
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.engine.rewards import tiny_clips
from tests.engine.rewards import tiny_image_reward as tiny
from tests.engine.rewards.test_aesthetic import head as aesthetic_head
from tests.fake_hub import FakeHub


@pytest.fixture
def weights(room):
    return room("nodes.rewards.weights")


@pytest.fixture
def neural(room):
    return room("nodes.rewards.neural")


@pytest.fixture(autouse=True)
def models(comfy, weights, tmp_path, monkeypatch):
    """ComfyUI's model folders, empty, and nobody's settings or hub cache."""
    import folder_paths

    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path / "models"))
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", {})
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    monkeypatch.setattr(folder_paths, "user_directory", str(tmp_path / "user"))
    for key in (weights.KEY, "clip_vision", "text_encoders"):
        (tmp_path / "models" / key).mkdir(parents=True)
    for key in ("clip_vision", "text_encoders"):
        folders = [str(tmp_path / "models" / key)], folder_paths.supported_pt_extensions
        folder_paths.folder_names_and_paths[key] = folders
    weights.register_folder()
    for name in ("MIXGRPO_DOWNLOADS", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_ENDPOINT", "MIXGRPO_WORKER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return tmp_path / "models"


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


# --- downloads ----------------------------------------------------------------------------------------------------

CONTENT = bytes(range(256)) * 20_000
VALUE = "download: taste.txt (5.1 MB, MIT)"


@pytest.fixture
def slot(room, weights):
    catalog = room("mixgrpo_engine.rewards.files.catalog")
    digest = hashlib.sha256(CONTENT).hexdigest()
    file = catalog.KnownFile("taste.txt", "people/taste", "words.txt", "main", len(CONTENT), "MIT", digest)
    return replace(weights.BERT_VOCAB, known=file)


@pytest.fixture
def hub(monkeypatch):
    with FakeHub({"people/taste/words.txt": CONTENT}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


def test_a_graph_cannot_download_by_itself(room, weights, slot, hub, models):
    with pytest.raises(ValueError, match="this server's owner can allow its download by MIXGRPO_DOWNLOADS=1"):
        room("nodes.rewards.fetch").obtain(slot, VALUE)
    assert hub.ranges == [] and not list((models / weights.KEY).iterdir())


def test_download_with_leave_and_the_value_keeps_working(
    room, weights, slot, hub, models, monkeypatch, caplog, all_progress
):
    import comfy.utils

    steps = []
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", lambda now, total, *_, **__: steps.append((now, total)))
    monkeypatch.setenv("MIXGRPO_DOWNLOADS", "1")
    obtain = room("nodes.rewards.fetch").obtain
    assert weights.choices(slot) == ["taste.txt", VALUE]
    assert weights.is_usable(slot, VALUE) is True
    with caplog.at_level("INFO"):
        path = obtain(slot, VALUE)
    assert path == models / weights.KEY / "taste.txt" and path.read_bytes() == CONTENT
    assert "taste.txt (5.1 MB, MIT) from https://huggingface.co/people/taste" in caplog.text
    assert steps[-1] == (100, 100) and steps == sorted(set(steps))
    # The stored value means the local file from now on, with or without leave.
    monkeypatch.delenv("MIXGRPO_DOWNLOADS")
    assert obtain(slot, VALUE) == path
    assert weights.choices(slot) == ["taste.txt"]
    assert len(hub.ranges) == 1


def test_interrupt_cancels_a_download(room, weights, slot, hub, models, monkeypatch, all_progress):
    import comfy.model_management
    import comfy.utils

    def hook(now, total, *_, **__):
        if now > 30:
            comfy.model_management.interrupt_current_processing(True)

    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", hook)
    monkeypatch.setenv("MIXGRPO_DOWNLOADS", "1")
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        room("nodes.rewards.fetch").obtain(slot, VALUE)
    (part,) = (models / weights.KEY).iterdir()
    assert part.suffix == ".part" and 0 < part.stat().st_size < len(CONTENT)
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", None)
    assert room("nodes.rewards.fetch").obtain(slot, VALUE).read_bytes() == CONTENT


# --- the nodes ----------------------------------------------------------------------------------------------------


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
    references = [room("mixgrpo_engine.rewards.references").References({"image": images[0].movedim(-1, 0)})] * 2
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
