"""The embedded tiny model, through ComfyUI's own loading, encoding, sampling and decoding."""

import random

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mixgrpo_engine import shapes
from mixgrpo_engine.rewards.shapes import ShapesReward
from pretraining import text as pretraining_text
from tests.nodes.model import stock


@pytest.fixture(scope="module")
def tiny(room):
    return room("nodes.tiny.tiny_model")


@pytest.fixture(scope="module")
def loaded(tiny):
    """(model, clip, vae) as the node gives them."""
    return tiny.MixGRPOTinyModel.execute().result


def encode(clip, prompt):
    return clip.encode_from_tokens_scheduled(clip.tokenize(prompt))


def test_the_schema_has_no_inputs_and_explains_its_outputs(tiny):
    schema = tiny.MixGRPOTinyModel.define_schema()
    assert schema.node_id == "MixGRPO_TinyModel" and schema.category == "MixGRPO" and not schema.inputs
    assert [output.io_type for output in schema.outputs] == ["MODEL", "CLIP", "VAE"]
    assert all(output.tooltip for output in schema.outputs)


def test_the_model_is_an_ordinary_flow_model(loaded):
    import comfy.model_base
    import comfy.model_patcher

    model = loaded[0]
    assert isinstance(model, comfy.model_patcher.ModelPatcher) and isinstance(model.model, comfy.model_base.SD3)
    assert model.model.model_type == comfy.model_base.ModelType.FLOW
    assert model.get_model_object("model_sampling").shift == 3.0


def test_every_weight_of_the_files_is_used(loaded, tiny):
    model, clip, vae = loaded
    assert set(load_file(tiny.DENOISER)) == set(model.model.diffusion_model.state_dict())
    assert set(load_file(tiny.TEXT_ENCODER)) <= set(clip.cond_stage_model.clip_tiny.transformer.state_dict())
    assert set(load_file(tiny.VAE)) == set(vae.first_stage_model.state_dict())


@pytest.mark.parametrize(
    "prompt", ["", "a red circle", "a zebra in the style of nobody", "(red:1.3) circle", "\\(red\\)", "1 2 3, !"]
)
def test_any_prompt_can_be_encoded(loaded, prompt):
    [[context, extra]] = encode(loaded[1], prompt)
    assert context.shape == (1, 16, 128) and extra["pooled_output"].shape == (1, 128)
    assert torch.isfinite(context).all() and torch.isfinite(extra["pooled_output"]).all()


def test_a_long_prompt_goes_on_in_further_rows(loaded):
    assert encode(loaded[1], "red " * 14)[0][0].shape == (1, 16, 128)
    assert encode(loaded[1], "red " * 15)[0][0].shape == (1, 32, 128)


def test_weights_change_their_word_only_a_little_and_one_is_neutral(loaded):
    clip = loaded[1]
    plain, neutral, heavy = (
        encode(clip, text)[0][0] for text in ("a red circle", "a (red:1.0) circle", "a (red:1.3) circle")
    )
    assert torch.equal(plain, neutral)
    changed = (plain - heavy).abs().amax(dim=(0, 2)) > 1e-6
    assert changed.tolist() == [place == 2 for place in range(16)]  # start, a, red


def test_words_are_read_without_regard_to_case_and_unknown_words_are_all_alike(loaded):
    clip = loaded[1]
    assert clip.tokenize("A RED circle!") == clip.tokenize("a red circle")
    assert clip.tokenize("a zebra") == clip.tokenize("a quagga") != clip.tokenize("a circle")


def test_word_ids_are_given_on_request(loaded):
    [row] = loaded[1].tokenize("a red circle", return_word_ids=True)["tiny"]
    assert [number for _, _, number in row[:6]] == [0, 1, 2, 3, 0, 0]


def test_the_encoder_computes_what_was_pretrained(loaded, tiny):
    trained = pretraining_text.TextEncoder()
    trained.load_state_dict(load_file(tiny.TEXT_ENCODER))
    for prompt in ("", "a red circle to the left of a blue square on a white background"):
        with torch.no_grad():
            context, pooled = trained(torch.tensor([pretraining_text.tokens(prompt)]))
        [[got, extra]] = encode(loaded[1], prompt)
        assert torch.allclose(got, context, atol=0.02)
        assert torch.allclose(extra["pooled_output"], pooled, atol=0.02)


def test_the_vae_gives_pictures_back(loaded):
    rng = random.Random(0)
    specs = [shapes.parse(prompt) for prompt in shapes.sample_prompts(16)]
    pictures = np.stack([np.asarray(shapes.draw(shapes.layout(spec, rng))) for spec in specs])
    wanted = torch.from_numpy(pictures).float() / 255
    latents = loaded[2].encode(wanted)
    assert latents.shape == (16, 16, 8, 8)
    error = (loaded[2].decode(latents) - wanted).square().mean()
    assert -10 * torch.log10(error) > 30


def test_stock_sampling_draws_about_half_of_the_prompts_right(loaded):
    """There must be something to win by alignment, and something to build on."""
    model, clip, vae = loaded
    prompts = shapes.prompt_split(48, 48)[1]
    encoded = [encode(clip, prompt)[0] for prompt in prompts]
    together = [
        [torch.cat([c for c, _ in encoded]), {"pooled_output": torch.cat([e["pooled_output"] for _, e in encoded])}]
    ]
    noise = torch.randn(48, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    latents, _ = stock.sample(model, noise, together, encode(clip, ""), steps=10)
    images = vae.decode(model.model.latent_format.process_out(latents))
    reward = ShapesReward()
    assert 0.3 <= reward.strict(images, prompts).mean() <= 0.7
    assert 0.6 <= reward.score(images, prompts).mean() <= 0.9


def test_a_missing_file_is_named(tiny, room, tmp_path, monkeypatch):
    monkeypatch.setattr(tiny, "VAE", tmp_path / "tiny_vae.safetensors")
    with pytest.raises(FileNotFoundError, match=r"tiny_vae.*reinstall"):
        tiny.load_vae()
    with pytest.raises(FileNotFoundError, match=r"tiny_text.*reinstall"):
        room("nodes.tiny.text_encoder").load_clip(tmp_path / "tiny_text_encoder.safetensors")
