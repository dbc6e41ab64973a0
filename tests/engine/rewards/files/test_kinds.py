"""What a file of weights is: told by its tensors or its name, and named in the refusal."""

import pytest
import torch
from safetensors.torch import save_file

from mixgrpo_engine.rewards.aesthetic import AestheticReward
from mixgrpo_engine.rewards.files import kinds, weight_files
from mixgrpo_engine.rewards.hps import HPSReward
from mixgrpo_engine.rewards.image_reward import ImageRewardReward
from mixgrpo_engine.rewards.pick_score import PickScoreReward
from tests.engine.rewards import test_aesthetic, tiny_clips, tiny_image_reward

TOKENS = {"text_model.embeddings.token_embedding.weight": (49408, 768)}


def clip(width, patch):
    """Names and shapes of a CLIP's parts that tell what it is, in transformers' layout."""
    eyes = "vision_model.embeddings."
    return {f"{eyes}class_embedding": (width,), f"{eyes}patch_embedding.weight": (width, 3, patch, patch)}


# OpenAI's ViT-L/14@336px: 24 x 24 patches and the class token.
LARGER = {**clip(1024, 14), "vision_model.embeddings.position_embedding.weight": (577, 1024)}


@pytest.mark.parametrize(
    "shapes, words",
    [
        ({**clip(1024, 14), **TOKENS}, "a CLIP ViT-L/14"),
        (clip(1280, 14), "the vision tower of a CLIP ViT-H/14 alone"),
        ({**clip(128, 8), **TOKENS}, "a CLIP"),
        (LARGER, "the vision tower of a CLIP ViT-L/14 at 336 pixels alone"),
        (
            {"visual.conv1.weight": (768, 3, 32, 32), "visual.class_embedding": (768,)}
            | {"visual.positional_embedding": (50, 768)},
            "the vision tower of a CLIP ViT-B/32 alone",
        ),
        ({"visual.conv1.weight": (768, 3, 32, 32), "visual.class_embedding": (768,)}, "the vision tower of a CLIP ViT"),
        ({"cond.token_embedding.weight": (49408, 512)}, "the text tower of a CLIP alone"),
        ({"visual.blocks.0.attn.qkv.weight": (3, 3), "rm_head.0.weight": (1024, 3584)}, "HPSv3, or another reward on"),
        ({**clip(1152, 14), "logit_bias": ()}, "a SigLIP"),
        ({"vision_model.embeddings.patch_embedding.weight": (1152, 3, 14, 14)}, "an image encoder without CLIP's"),
        ({"encoder.block.0.layer.0.SelfAttention.q.weight": (4096, 4096)}, "a T5 text encoder"),
        ({"model.diffusion_model.x": (1,), **TOKENS}, "a checkpoint of a diffusion model"),
        ({"double_blocks.0.img_attn.qkv.weight": (3, 3)}, "a diffusion model"),
        ({"transformer_blocks.0.attn.to_q.lora_A.weight": (4, 4)}, "a LoRA"),
        ({"decoder.conv_in.weight": (1, 1, 3, 3)}, "a VAE"),
        ({"visual_encoder.cls_token": (1, 1, 8), "text_decoder.x": (1,)}, "a BLIP without ImageReward's head"),
        ({"weight": (1, 768), "bias": (1,)}, "another aesthetic predictor"),
        ({"layers.0.weight": (1024, 768), "layers.3.weight": (1, 1024)}, "the head of another aesthetic predictor"),
    ],
)
def test_a_file_is_told_by_its_tensors(shapes, words):
    assert kinds.layout(shapes).words.startswith(words)


def test_what_nobody_knows_is_left_to_the_scorer(tmp_path):
    assert kinds.layout({"something.else": (1,)}) is None and kinds.layout({}) is None
    (tmp_path / "hps.pt").write_bytes(b"no weights")
    assert kinds.another(kinds.HPS, tmp_path / "hps.pt") == kinds.another(kinds.HPS, tmp_path / "gone.pt") == ""


@pytest.mark.parametrize(
    "kind, name, words",
    [
        (kinds.HPS, "HPS_v2_compressed.pt", "HPS v2.0 by its name"),
        (kinds.HPS, "hpsv2.safetensors", "HPS v2.0 by its name"),
        (kinds.HPS, "HPS-v2.0.pt", "HPS v2.0 by its name"),
        (kinds.HPS, "HPSv3.safetensors", "HPSv3 by its name"),
        (kinds.HPS, "hpc.pt", "HPS v1 by its name"),
        (kinds.HPS, "HPS_v2.1_compressed.pt", ""),
        (kinds.HPS, "hpsv2_1.safetensors", ""),
        (kinds.AESTHETIC, "sa_0_4_vit_l_14_linear.pth", "LAION's first aesthetic predictor by its name"),
        (kinds.AESTHETIC, "ava+logos-l14-linearMSE.pth", "an earlier version's head by its name"),
        (kinds.AESTHETIC, "aesthetic_predictor_v2_5.pth", "Aesthetic Predictor V2.5, which looks through a SigLIP by"),
        (kinds.AESTHETIC, "sac+logos+ava1-l14-linearMSE.pth", ""),
        (kinds.PICK_SCORE, "PickScore_v1.safetensors", ""),
        (kinds.IMAGE_REWARD, "ImageReward-v1.0.pt", ""),
    ],
)
def test_another_version_is_told_by_its_name(tmp_path, kind, name, words):
    found = kinds.another(kind, tmp_path / name)
    assert found.startswith(words) and bool(found) == bool(words)


def test_every_scorers_own_file_fits_and_the_others_are_named(tmp_path):
    tiny_clips.saved(tiny_clips.open_clip_clip(), tmp_path / "clip.pt")
    torch.save(test_aesthetic.head().state_dict(), tmp_path / "head.pth")
    torch.save(tiny_image_reward.tensors(), tmp_path / "blip.pt")
    own = {"clip.pt": {kinds.HPS, kinds.PICK_SCORE, kinds.CLIP, kinds.CLIP_TEXT, kinds.EYES}}
    own |= {"head.pth": {kinds.AESTHETIC}, "blip.pt": {kinds.IMAGE_REWARD}}
    words = {"clip.pt": "a CLIP", "head.pth": "the head of an aesthetic predictor", "blip.pt": "ImageReward"}
    for name, fitting in own.items():
        for kind in (*kinds.KINDS, kinds.CLIP_TEXT, kinds.EYES):
            assert kinds.another(kind, tmp_path / name) == ("" if kind in fitting else words[name]), (kind.name, name)


@pytest.mark.parametrize(
    "make, sentence",
    [
        (
            lambda f, words: HPSReward(f, words),
            "not HPS v2.1: choose HPS_v2.1_compressed.pt of https://",
        ),
        (
            lambda f, words: PickScoreReward(f, words),
            "not PickScore: choose model.safetensors of https://",
        ),
        (lambda f, words: ImageRewardReward(f, words), "not ImageReward: choose ImageReward.pt of https://"),
        (lambda f, words: AestheticReward(f, f), "not the head of LAION's improved aesthetic predictor: choose sac"),
    ],
)
def test_a_scorer_refuses_another_models_weights_as_what_they_are(tmp_path, comfyui_dir, make, sentence):
    """A ViT-L/14 in the place of a ViT-H/14 would score, on a scale of its own."""
    shapes = {**clip(1024, 14), **TOKENS}
    save_file({name: torch.zeros(shape) for name, shape in shapes.items()}, tmp_path / "vit_l.safetensors")
    with pytest.raises(ValueError) as caught:
        scorer = make(tmp_path / "vit_l.safetensors", comfyui_dir / "comfy" / "sd1_tokenizer")
        scorer.score(torch.zeros(1, 8, 8, 3), ["a cat"])
    assert sentence in str(caught.value) and "vit_l.safetensors is a CLIP ViT-L/14, not " in str(caught.value)


def test_the_aesthetic_reward_refuses_the_clip_for_larger_pictures(tmp_path):
    """Its head was fitted to what the one for 224 pixels sees; other scorers may look through either."""
    file, same_size = tmp_path / "clip_vision_l_336.safetensors", tmp_path / "clip_vision_l.safetensors"
    places = "vision_model.embeddings.position_embedding.weight"
    for path, shapes in ((file, LARGER), (same_size, {**LARGER, places: (257, 1024)})):
        save_file({name: torch.zeros(shape) for name, shape in shapes.items()}, path)
    assert kinds.another(kinds.EYES, file) == "the vision tower of a CLIP ViT-L/14 at 336 pixels alone"
    assert kinds.another(kinds.EYES, same_size) == kinds.another(kinds.CLIP, file) == ""


def test_shapes_are_those_of_the_tensors(tmp_path):
    tensors = {"a": torch.zeros(2, 3), "b": torch.zeros(())}
    save_file(tensors, tmp_path / "w.safetensors")
    torch.save({"state_dict": {**tensors, "step": 3}}, tmp_path / "w.pt")
    torch.save(tensors, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name in ("w.safetensors", "w.pt", "old.pt"):
        assert weight_files.shapes(tmp_path / name) == {"a": (2, 3), "b": ()}


def test_an_old_file_that_is_large_is_not_read_for_its_shapes(tmp_path, monkeypatch):
    torch.save({"a": torch.zeros(2)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    monkeypatch.setattr(weight_files, "MOST_UNZIPPED", 10)
    assert weight_files.shapes(tmp_path / "old.pt") == {}
