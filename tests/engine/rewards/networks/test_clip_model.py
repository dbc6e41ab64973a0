"""Sizes from shapes, and files that are no CLIP."""

import pytest
import torch
from safetensors.torch import save_file

from mixgrpo_engine.rewards.networks import clip_model
from tests.engine.rewards import tiny_clips as tiny


@pytest.fixture(scope="module")
def tensors():
    """Those of a CLIP in transformers' layout."""
    return {name: tensor.clone() for name, tensor in tiny.transformers_clip().state_dict().items()}


@pytest.fixture
def load(tmp_path):
    """`load(tensors, **arguments)` saves and loads them."""

    def load(tensors, **arguments):
        save_file(dict(tensors), tmp_path / "clip.safetensors")
        return clip_model.load(tmp_path / "clip.safetensors", **arguments)

    return load


def test_sizes_are_read_off(load, tensors):
    clip = load(tensors)
    vision, text = clip.vision.config, clip.text.config
    assert (vision.hidden_size, vision.intermediate_size, vision.num_hidden_layers) == (128, 200, 2)
    assert (vision.num_attention_heads, vision.image_size, vision.patch_size) == (2, 32, 8)
    assert (text.hidden_size, text.intermediate_size, text.num_hidden_layers) == (64, 100, 2)
    assert (text.num_attention_heads, text.max_position_embeddings, text.vocab_size) == (1, 77, 49408)
    assert (clip.width, clip.image_size) == (48, 32) and clip.scale == pytest.approx(90.0171)
    for name, tensor in {**clip.vision.state_dict(), **clip.text.state_dict()}.items():
        assert torch.equal(tensor, tensors[name])


@pytest.mark.parametrize("prefix", ["model.", "module.", "cond_stage_model.model."])
def test_prefixes_and_derived_numbers(load, tensors, prefix):
    more = {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    clip = load({f"{prefix}{name}": tensor for name, tensor in {**tensors, **more}.items()})
    assert torch.equal(clip.vision.visual_projection.weight, tensors["visual_projection.weight"])


def test_heads_of_vit_h(load):
    """1280 wide, 80 a head: 64 a head would run, too, with other embeddings."""
    network = tiny.open_clip_clip(vision_width=1280, head_width=80)
    clip = load({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, activation="gelu")
    assert clip.vision.config.num_attention_heads == 16
    pixels = tiny.cropped_by_pillow(tiny.pictures(2, 32, 32))
    published = network.encode_image(pixels, normalize=True)
    torch.testing.assert_close(clip.embed_images(pixels), published, atol=1e-5, rtol=1e-4)
    tiny.open_clip_clip.cache_clear()


def test_activation_follows_the_size(load, tensors):
    clip = load(tensors)
    assert (clip.vision.config.hidden_act, clip.text.config.hidden_act) == ("quick_gelu", "quick_gelu")
    network = tiny.open_clip_clip(vision_width=1408, head_width=88)
    clip = load(network.state_dict())
    assert (clip.vision.config.hidden_act, clip.vision.config.num_attention_heads) == ("gelu", 16)
    tiny.open_clip_clip.cache_clear()


def test_a_text_tower_of_its_own(load):
    """open_clip's newer models keep the text tower under text."""
    network = tiny.open_clip_clip()
    tensors = {
        name if name.startswith(("visual.", "logit_scale")) else f"text.{name}": tensor
        for name, tensor in network.state_dict().items()
    }
    clip = load(tensors, activation="gelu")
    tokens = torch.tensor([[49406, 320, 2368, 49407, 0, 0]])
    expected = network.encode_text(torch.nn.functional.pad(tokens, (0, 71)), normalize=True)
    torch.testing.assert_close(clip.embed_tokens(tokens), expected, atol=1e-5, rtol=1e-4)


def without(tensors, *names):
    return {name: tensor for name, tensor in tensors.items() if name not in names}


LAYER = "vision_model.encoder.layers.1.mlp.fc2.bias"


@pytest.mark.parametrize(
    "change, sentence",
    [
        (lambda t: without(t, LAYER), f"clip.safetensors lacks {LAYER}: it isn't complete"),
        (
            lambda t: without(t, "visual_projection.weight"),
            "clip.safetensors lacks visual_projection.weight: it isn't complete, or not the weights of a CLIP with",
        ),
        (lambda t: without(t, "text_projection.weight"), "clip.safetensors lacks text_projection.weight"),
        (
            lambda t: {**t, **{f"decoder.{i}": torch.zeros(1) for i in range(5)}},
            r"holds what no CLIP has \(decoder.0, decoder.1, decoder.2 and 2 more\)",
        ),
        (
            lambda t: {**t, "vision_model.head.weight": torch.zeros(2, 2)},
            r"holds what no CLIP has \(vision_model.head.weight\)",
        ),
        (lambda t: {**t, LAYER: torch.zeros(7)}, "isn't a CLIP whose parts fit each other: .*size mismatch"),
        (
            lambda t: {**t, "vision_model.embeddings.position_embedding.weight": torch.zeros(16, 128)},
            "has 15 image patches: only CLIPs for square images",
        ),
        (
            lambda t: {**t, "vision_model.embeddings.patch_embedding.weight": torch.zeros(4)},
            r"vision_model.embeddings.patch_embedding.weight has the shape \(4,\), which no CLIP has",
        ),
        (
            lambda t: {**t, "text_model.embeddings.token_embedding.weight": torch.zeros(10, 64)},
            "knows 10 tokens, but the tokenizer has more",
        ),
        (lambda t: {"layers.0.weight": torch.zeros(2, 2)}, "clip.safetensors isn't a CLIP with a vision transformer"),
        (lambda t: {**t, "logit_scale": torch.zeros(2)}, r"holds what no CLIP has \(logit_scale\)"),
    ],
)
def test_what_is_no_clip_is_refused(load, tensors, change, sentence):
    with pytest.raises(ValueError, match=sentence):
        load(change(tensors))


@pytest.mark.parametrize("shape", [(), (1, 1, 128), (4,)])
def test_query_key_and_value_that_can_t_be_split(load, shape):
    tensors, name = tiny.open_clip_clip().state_dict(), "transformer.resblocks.0.attn.in_proj_bias"
    with pytest.raises(ValueError, match=rf"clip.safetensors holds what no CLIP has \({name}\)"):
        load({**tensors, name: torch.zeros(shape)})


def test_heads_that_can_t_be_told(load):
    network = tiny.open_clip_clip(vision_width=96, head_width=32)
    with pytest.raises(ValueError, match="how many attention heads a vision tower of width 96 has can't be told"):
        load(network.state_dict())


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file .*nothing.safetensors: put the scorer's weights"):
        clip_model.load(tmp_path / "nothing.safetensors")
