"""CLIPScore, HPS and PickScore against the libraries that define them, on tiny CLIPs in the published layouts."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from mixgrpo_engine.rewards.clip_score import ClipScoreReward
from mixgrpo_engine.rewards.hps import HPSReward
from mixgrpo_engine.rewards.networks.model_reward import ModelOptions
from mixgrpo_engine.rewards.pick_score import PickScoreReward
from tests.engine.rewards import tiny_clips as tiny

COUNT = len(tiny.PROMPTS)


@pytest.fixture(scope="module")
def tokenizer(comfyui_dir):
    return comfyui_dir / "comfy" / "sd1_tokenizer"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """name -> file of weights."""
    folder = tmp_path_factory.mktemp("clips")
    return {
        "transformers": tiny.saved(tiny.transformers_clip("quick_gelu"), folder / "clip.safetensors"),
        "pick": tiny.saved(tiny.transformers_clip("gelu"), folder / "pick.safetensors"),
        "open_clip": tiny.saved(tiny.open_clip_clip(), folder / "open_clip.safetensors"),
        "hps": tiny.saved(tiny.open_clip_clip(), folder / "HPS.pt"),
    }


@pytest.fixture(scope="module")
def cosines_of_transformers(tokenizer):
    """`cosines(activation, pixels, prompts)` by transformers' CLIPModel and tokenizer."""
    from transformers import CLIPTokenizer

    tokens = CLIPTokenizer.from_pretrained(tokenizer)

    def cosines(activation, pixels, prompts):
        inputs = tokens(prompts, padding=True, truncation=True, max_length=77, return_tensors="pt")
        found = tiny.transformers_clip(activation)(pixel_values=pixels, **inputs)
        return (found.image_embeds * found.text_embeds).sum(-1)

    return cosines


def cosines_of_open_clip(pixels, prompts):
    from open_clip import SimpleTokenizer

    clip = tiny.open_clip_clip()
    images = clip.encode_image(pixels, normalize=True)
    return (images * clip.encode_text(SimpleTokenizer()(prompts, context_length=77), normalize=True)).sum(-1)


def close(scores, expected, scale=1.0):
    """1e-4 in units of the cosine, on scores that differ far more among each other."""
    assert expected.std() > 0.02 * scale
    torch.testing.assert_close(scores, expected, atol=1e-4 * scale, rtol=0)


@pytest.mark.parametrize("height, width", tiny.SIZES)
def test_clip_score_by_transformers(files, tokenizer, cosines_of_transformers, height, width):
    images = tiny.pictures(COUNT, height, width)
    expected = 100 * cosines_of_transformers("quick_gelu", tiny.cropped_by_pillow(images), tiny.PROMPTS)
    close(ClipScoreReward(files["transformers"], tokenizer).score(images, tiny.PROMPTS), expected, 100)


def test_clip_score_by_open_clip(files, tokenizer):
    images, prompts = tiny.pictures(4, 37, 91), ["a red circle", "two cats", "", "a boat " * 90]
    reward = ClipScoreReward(files["open_clip"], tokenizer, activation="gelu")
    close(reward.score(images, prompts), 100 * cosines_of_open_clip(tiny.cropped_by_pillow(images), prompts), 100)


@pytest.mark.parametrize("height, width", tiny.SIZES)
def test_hps_by_open_clip(files, tokenizer, height, width):
    images = tiny.pictures(COUNT, height, width)
    expected = cosines_of_open_clip(tiny.padded_by_pillow(images), tiny.PROMPTS)
    close(HPSReward(files["hps"], tokenizer).score(images, tiny.PROMPTS), expected)


def test_hps_as_safetensors(files, tokenizer):
    images = tiny.pictures(2, 32, 40)
    scores = [HPSReward(files[name], tokenizer).score(images, ["a cat", "a dog"]) for name in ("hps", "open_clip")]
    assert torch.equal(*scores)


@pytest.mark.parametrize("height, width", tiny.SIZES)
def test_pick_score_by_transformers(files, tokenizer, cosines_of_transformers, height, width):
    images = tiny.pictures(COUNT, height, width)
    scale = torch.tensor(4.5).exp()  # tiny_clips' logit_scale
    expected = scale * cosines_of_transformers("gelu", tiny.cropped_by_pillow(images), tiny.PROMPTS)
    close(PickScoreReward(files["pick"], tokenizer).score(images, tiny.PROMPTS), expected, float(scale))


def test_pick_score_needs_its_scale(tokenizer, tmp_path):
    tensors = {name: tensor.clone() for name, tensor in tiny.transformers_clip("gelu").state_dict().items()}
    tensors.pop("logit_scale")
    save_file(tensors, tmp_path / "clip.safetensors")
    with pytest.raises(ValueError, match="clip.safetensors lacks logit_scale: it isn't the weights of PickScore"):
        PickScoreReward(tmp_path / "clip.safetensors", tokenizer).score(torch.zeros(1, 8, 8, 3), ["a"])


def test_clip_score_by_transformers_own_processor(files, tokenizer, cosines_of_transformers):
    """The processor that a transformers user gets rounds a little differently from Pillow: 1e-3."""
    from transformers import CLIPImageProcessor

    images = tiny.pictures(COUNT, 37, 91)
    process = CLIPImageProcessor(size={"shortest_edge": tiny.SIZE}, crop_size={"height": tiny.SIZE, "width": tiny.SIZE})
    pixels = process(images=tiny.as_pillow(images), return_tensors="pt")["pixel_values"]
    expected = 100 * cosines_of_transformers("quick_gelu", pixels, tiny.PROMPTS)
    scores = ClipScoreReward(files["transformers"], tokenizer).score(images, tiny.PROMPTS)
    torch.testing.assert_close(scores, expected, atol=0.1, rtol=0)


def test_the_activation_is_seen(files, tokenizer):
    images, prompts = tiny.pictures(3, 32, 32), ["a cat"] * 3
    quick, gelu, usual = (
        ClipScoreReward(files["transformers"], tokenizer, activation=activation).score(images, prompts)
        for activation in ("quick_gelu", "gelu", "auto")
    )
    assert torch.equal(quick, usual) and (quick - gelu).abs().max() > 0.05
    with pytest.raises(ValueError, match="activation is 'relu': it must be one of auto, quick_gelu, gelu"):
        ClipScoreReward(files["transformers"], tokenizer, activation="relu").score(images, prompts)


def test_towers_in_files_of_their_own(files, tokenizer, tmp_path):
    """As ComfyUI keeps them: clip_vision and text_encoders."""
    tensors = {name: tensor.clone() for name, tensor in tiny.transformers_clip().state_dict().items()}
    vision, text = ({n: t for n, t in tensors.items() if n.startswith(part)} for part in ("vis", "text"))
    save_file(vision, tmp_path / "vision.safetensors")
    save_file(text, tmp_path / "text.safetensors")
    transposed = dict(text)
    transposed["text_projection"] = transposed.pop("text_projection.weight").T.contiguous()
    save_file(transposed, tmp_path / "transposed.safetensors")

    images, prompts = tiny.pictures(2, 32, 32), ["a cat", "a dog"]
    expected = ClipScoreReward(files["transformers"], tokenizer).score(images, prompts)
    for name in ("text", "transposed"):
        reward = ClipScoreReward(
            tmp_path / "vision.safetensors", tokenizer, text_weights=tmp_path / f"{name}.safetensors"
        )
        torch.testing.assert_close(reward.score(images, prompts), expected)
    with pytest.raises(ValueError, match="vision.safetensors holds no text tower of a CLIP: give its file"):
        ClipScoreReward(tmp_path / "vision.safetensors", tokenizer).score(images, prompts)
    with pytest.raises(ValueError, match="text.safetensors is the text tower of a CLIP alone, not a CLIP"):
        ClipScoreReward(tmp_path / "text.safetensors", tokenizer).score(images, prompts)
    cut = {**text, "text_projection.weight": text["text_projection.weight"][:10].clone()}
    save_file(cut, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="embeds images as 48 numbers, but other.safetensors texts as 10"):
        ClipScoreReward(tmp_path / "vision.safetensors", tokenizer, text_weights=tmp_path / "other.safetensors").score(
            images, prompts
        )


def test_config_json_beside_the_file(files, tokenizer, tmp_path):
    """It tells activation and heads, if it is of this size."""
    clip = tiny.transformers_clip("gelu")
    file = tiny.saved(clip, tmp_path / "model.safetensors")
    images, prompts = tiny.pictures(3, 32, 32), ["a cat"] * 3

    def score():
        return ClipScoreReward(file, tokenizer).score(images, prompts)

    gelu = ClipScoreReward(file, tokenizer, activation="gelu").score(images, prompts)
    assert (score() - gelu).abs().max() > 0.05
    config = clip.config.to_dict()
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert torch.equal(score(), gelu)
    config["vision_config"]["num_attention_heads"] = 4
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert (score() - gelu).abs().max() > 0.05
    for tower in ("vision_config", "text_config"):
        config[tower]["num_hidden_layers"] = 3
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert (score() - gelu).abs().max() > 0.05  # another model's
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="config.json can't be read as JSON"):
        score()


def test_half_precision_is_close(files, tokenizer):
    images = tiny.pictures(COUNT, 37, 91)
    exact = PickScoreReward(files["pick"], tokenizer).score(images, tiny.PROMPTS)
    half = PickScoreReward(files["pick"], tokenizer, ModelOptions(dtype="bfloat16")).score(images, tiny.PROMPTS)
    assert half.dtype == torch.float32
    assert F.cosine_similarity(exact, half, dim=0) > 0.995 and not torch.equal(exact, half)


@pytest.mark.parametrize(
    "kind, file", [(ClipScoreReward, "transformers"), (HPSReward, "hps"), (PickScoreReward, "pick")]
)
def test_a_batch_is_its_images(files, tokenizer, kind, file):
    images, prompts = tiny.pictures(5, 37, 91), [*tiny.PROMPTS[:4], tiny.PROMPTS[0]]
    whole = kind(files[file], tokenizer, ModelOptions(batch_size=0)).score(images, prompts)
    single = kind(files[file], tokenizer)
    one_by_one = torch.cat([single.score(images[i : i + 1], prompts[i : i + 1]) for i in range(5)])
    by_two = kind(files[file], tokenizer, ModelOptions(batch_size=2)).score(images, prompts)
    for other in (one_by_one, by_two):
        torch.testing.assert_close(other, whole, atol=1e-5 * float(whole.abs().max()), rtol=0)
    assert whole.std() > 0.01 * float(whole.abs().max())


def test_fp16_files_and_close(files, tokenizer, tmp_path):
    tensors = {f"module.{name}": tensor.half() for name, tensor in tiny.open_clip_clip().state_dict().items()}
    save_file(tensors, tmp_path / "half.safetensors")
    images, prompts = tiny.pictures(2, 32, 32), ["a cat", "a dog"]
    reward = HPSReward(tmp_path / "half.safetensors", tokenizer)
    scores = reward.score(images, prompts)
    torch.testing.assert_close(scores, HPSReward(files["hps"], tokenizer).score(images, prompts), atol=2e-3, rtol=0)
    assert reward.module().vision.dtype == torch.float32
    reward.close()
    assert torch.equal(reward.score(images, prompts), scores)
