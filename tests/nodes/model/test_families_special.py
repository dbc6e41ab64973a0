"""What is special to some families: guidance embeddings, byT5 tokens, masks, fp8 files, image-predicting flow."""

import pytest
import torch

from tests.nodes import tiny_models
from tests.nodes.model import stock
from tests.nodes.model.finite_differences import gradients, random_weights


def velocity(policy, prompt="red", sigma=0.6):
    with torch.no_grad():
        return policy.module(policy.noise([5]), sigma, policy.condition([prompt]))


def close(one, other):
    return (one - other).abs().max() < 2e-5 * other.abs().max()


@pytest.fixture
def family_policy(room, policy_of, encoded):
    """A policy of a family, its prompts in `encoded`."""

    def make(name, model=None, **changes):
        family = tiny_models.FAMILIES[name]
        encoded.conditionings.update({"red": family.prompt(1), "": family.prompt(4, tokens=14)})
        model = model or family.build()
        vae = tiny_models.vae(model.model.latent_format.latent_channels)
        return model, policy_of(model, **{"vae": vae, "width": family.size, "height": family.size, **changes})

    return make


@pytest.mark.parametrize("name", ["flux", "flux2", "chroma"])
@pytest.mark.parametrize("cfg", [1.0, 2.0])
def test_guidance_is_what_the_flux_guidance_node_does(family_policy, encoded, name, cfg):
    from comfy_extras.nodes_flux import FluxGuidance

    model, policy = family_policy(name, guidance=1.5, cfg=cfg)
    guided = [FluxGuidance.execute(encoded[prompt], 1.5).result[0] for prompt in ("red", "")]
    expected = stock.one_velocity(model, policy.noise([5]), 0.6, *guided, cfg)
    assert close(velocity(policy), expected)
    _, default = family_policy(name, model, cfg=cfg)
    plain = stock.one_velocity(model, policy.noise([5]), 0.6, encoded["red"], encoded[""], cfg)
    assert close(velocity(default), plain)
    assert (plain - expected).abs().max() > 1e-2


@pytest.mark.parametrize("name", ["sd3", "qwen_image", "hunyuan_image"])
def test_guidance_without_an_embedding_for_it_is_refused(comfy, family_policy, name):
    with pytest.raises(ValueError, match=r"guidance is 4, but this MODEL \(\w+\) has no guidance embedding: set it to"):
        family_policy(name, guidance=4.0)


def test_another_negative_prompt_is_another_velocity(family_policy, encoded):
    model, policy = family_policy("sd3", cfg=3.0, negative="green")
    expected = stock.one_velocity(model, policy.noise([5]), 0.6, encoded["red"], encoded["green"], 3.0)
    assert close(velocity(policy), expected)
    assert not close(velocity(family_policy("sd3", model, cfg=3.0)[1]), expected)


def test_hunyuan_image_takes_byt5_tokens_where_a_prompt_has_them(comfy, family_policy, encoded):
    """Quoted text is encoded by a second encoder; a batch may mix prompts with and without it."""
    model, policy = family_policy("hunyuan_image", tiny_models.hunyuan_image(byt5=True), cfg=2.0)
    tokens, extras = encoded["red"][0]
    byt5 = torch.randn(1, 6, 1472, generator=torch.Generator().manual_seed(1))
    encoded.conditionings["quoted"] = [[tokens, {**extras, "conditioning_byt5small": byt5}]]
    expected = stock.one_velocity(model, policy.noise([5]), 0.6, encoded["quoted"], encoded[""], 2.0)
    assert close(velocity(policy, "quoted"), expected)
    with torch.no_grad():
        mixed = policy.module(policy.noise([5, 5]), 0.6, policy.condition(["red", "quoted"]))
    assert close(mixed[1:], expected) and close(mixed[:1], velocity(policy, "red"))
    assert (mixed[0] - mixed[1]).abs().max() > 1e-2


@pytest.mark.parametrize("name", ["lumina2", "hunyuan_image"])
def test_masked_tokens_are_handled_as_in_stock_sampling(comfy, family_policy, encoded, name):
    model, policy = family_policy(name)
    tokens, extras = encoded["red"][0]
    mask = torch.ones(1, tokens.shape[1])
    mask[:, 5:] = 0
    # Lumina adds its mask to the attention's logits as it comes; the others take integers.
    mask = mask.long() if name == "hunyuan_image" else mask
    encoded.conditionings["masked"] = [[tokens, {**extras, "attention_mask": mask}]]
    expected = stock.one_velocity(model, policy.noise([5]), 0.6, encoded["masked"], encoded[""])
    assert close(velocity(policy, "masked"), expected)
    plain = stock.one_velocity(model, policy.noise([5]), 0.6, encoded["red"], encoded[""])
    # Newer ComfyUI's Lumina takes the mask and ignores it.
    assert not close(plain, expected) or name == "lumina2"
    assert close(velocity(policy, "red"), plain)


def test_a_meanflow_model_is_refused_by_name(comfy, family_policy):
    with pytest.raises(ValueError, match="is a MeanFlow HunyuanImage21"):
        family_policy("hunyuan_image", tiny_models.hunyuan_image(meanflow=True, guidance_embed=True))


def with_sampling(model, **methods):
    import comfy.model_sampling

    kind = type("Own", (comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.CONST), methods)
    model.add_object_patch("model_sampling", kind(model.model.model_config))
    return model


def image_itself(self, sigma, model_output, model_input):
    return model_output


def test_a_flow_model_that_predicts_the_image_trains_as_stock_samples_it(comfy, build, policy_of, encoded):
    model = with_sampling(build(), calculate_denoised=image_itself)
    policy = policy_of(model, cfg=3.0)
    for sigma in (1.0, 0.5, 0.1):
        expected = stock.one_velocity(model, policy.noise([5]), sigma, encoded["red"], encoded[""], 3.0)
        assert close(velocity(policy, "red", sigma), expected)
    tiny_models.train_a_little(policy)
    _, found = gradients(policy, ["red"], random_weights(policy))
    assert all(gradient.abs().max() > 0 for gradient in found.values())


@pytest.mark.parametrize(
    "methods",
    [
        {"calculate_denoised": lambda self, sigma, output, latents: latents - 2 * sigma * output},
        {"noise_scaling": lambda self, sigma, noise, latent_image, max_denoise=False: latent_image},
        {"calculate_input": lambda self, sigma, noise: noise / 2},
        {"percent_to_sigma": lambda self, percent: 80 * (1 - percent)},
    ],
)
def test_another_path_or_prediction_is_refused(comfy, policy_of, methods):
    with pytest.raises(ValueError, match="is a SD3 of type FLOW, which isn't flow matching"):
        policy_of(with_sampling(tiny_models.sd3(), **methods))


@pytest.mark.parametrize("name", tiny_models.FAMILIES)
def test_an_fp8_base_with_bf16_compute_trains(comfy, family_policy, name):
    model = tiny_models.FAMILIES[name].build(dtype=torch.float8_e4m3fn, compute_dtype=torch.bfloat16)
    _, policy = family_policy(name, model, cfg=2.0, gradient_checkpointing=True)
    linear = [layer for layer in policy.adapted_layers if "blocks" in layer or "layers" in layer]
    network = policy.module.model.diffusion_model
    assert {network.get_submodule(layer).base_layer.weight.dtype for layer in linear} == {torch.float8_e4m3fn}
    frozen = {key: tensor.clone() for key, tensor in policy.module.state_dict().items() if "lora_" not in key}
    tiny_models.train_a_little(policy)
    found, gradient = gradients(policy, ["red"], random_weights(policy))
    assert found.dtype == torch.float32 and found.isfinite().all()
    moving = [grad for grad in gradient.values() if grad is not None and grad.any()]
    assert len(moving) > len(gradient) / 2
    assert all(grad.dtype == torch.float32 and grad.isfinite().all() for grad in moving)
    after = policy.module.state_dict()
    assert all(torch.equal(tensor.view(torch.uint8), after[key].view(torch.uint8)) for key, tensor in frozen.items())


def test_a_bfloat16_lora_on_a_float32_base_trains_and_loads(comfy, build, policy_of, encoded, tmp_path, caplog):
    model = build()
    policy = policy_of(model, dtype="bfloat16")
    before = velocity(policy)
    assert {tensor.dtype for tensor in policy.adapter_state().values()} == {torch.bfloat16}
    tiny_models.train_a_little(policy)
    found, gradient = gradients(policy, ["red"], random_weights(policy))
    assert found.dtype == torch.float32
    assert all(grad.dtype == torch.bfloat16 and grad.abs().max() > 0 for grad in gradient.values())
    patched = stock.with_lora_of(policy, model, tmp_path / "run.safetensors", caplog)
    loaded = stock.one_velocity(patched, policy.noise([5]), 0.6, encoded["red"], encoded[""])
    trained = velocity(policy)
    # The file holds the very weights; what is left is bfloat16's rounding inside the adapter.
    assert (loaded - trained).abs().max() < 2e-2 * trained.abs().max()
    assert (trained - before).abs().max() > 5 * (loaded - trained).abs().max()


@pytest.fixture
def wan_vae(comfy):
    return tiny_models.wan_vae()


def test_an_image_of_wan_is_a_video_of_one_frame(family_policy, wan_vae):
    _, policy = family_policy("wan21", vae=wan_vae, width=64, height=48)
    noise = policy.noise([1, 2])
    assert noise.shape == (2, 16, 1, 6, 8)
    assert velocity(policy).shape == (1, 16, 1, 6, 8)
    images = policy.decode(noise)
    assert images.shape == (2, 48, 64, 3) and images.isfinite().all() and float(images.std()) > 0


def test_a_video_is_sampled_as_stock_does_and_decoded_as_its_frames(family_policy, encoded, wan_vae):
    model, policy = family_policy("wan21", vae=wan_vae, width=64, height=48, frames=5, cfg=2.0)
    noise = policy.noise([5, 6])
    assert noise.shape == (2, 16, 2, 6, 8)
    expected = stock.one_velocity(model, noise[:1], 0.6, encoded["red"], encoded[""], 2.0)
    assert close(velocity(policy), expected)
    strips = policy.decode(noise)
    assert strips.shape == (2, 5 * 48, 64, 3)
    with torch.no_grad():
        videos = wan_vae.decode(model.model.process_latent_out(noise))
    for frame in range(5):
        assert torch.allclose(strips[:, frame * 48 : (frame + 1) * 48], videos[:, frame].clamp(0, 1), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "own_vae", "frames", "sentence"),
    [
        ("wan21", True, 6, "frames is 6: this VAE makes 5 or 9"),
        ("wan21", False, 5, "the VAE makes single images"),
        ("qwen_image", True, 5, r"this MODEL \(QwenImage\) makes single images"),
        ("flux", False, 5, r"this MODEL \(Flux\) makes single images"),
    ],
)
def test_frames_that_cannot_be_made_are_refused(family_policy, wan_vae, name, own_vae, frames, sentence):
    vae = {"vae": wan_vae} if own_vae else {}
    with pytest.raises(ValueError, match=sentence):
        family_policy(name, width=64, height=64, frames=frames, **vae)
