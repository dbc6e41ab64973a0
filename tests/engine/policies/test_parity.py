"""Our sampling against diffusers' own pipelines, on the same noise, noise levels and prompts."""

import diffusers
import numpy as np
import pytest
import torch
from torch import nn

from mixgrpo_engine import lora
from mixgrpo_engine.policies.velocity import pack
from mixgrpo_engine.rollout import sample_ode

STEPS = 4
PROMPTS = ["a red circle on the left", "two blue squares"]
CLASSES = {
    "flux": diffusers.FluxPipeline,
    "sd3": diffusers.StableDiffusion3Pipeline,
    "chroma": diffusers.ChromaPipeline,
}
# Latents are up to 5; measured: FLUX 6e-6 and Chroma 1.03e-5, whose noise levels pass through 1000 and back, SD3 0.
TOLERANCE = 2e-5


@pytest.fixture(params=CLASSES)
def kind(request):
    return request.param


def velocity(policy, prompts=PROMPTS):
    condition = policy.condition(prompts)
    return lambda latents, sigma: policy.module(latents, sigma, condition)


@torch.no_grad()
def stock(kind, folder, policy, noise, cfg, height=64, width=64, output_type="latent"):
    """What the stock pipeline makes of the policy's encoded prompts."""
    pipeline = CLASSES[kind].from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    condition, options = policy.condition(PROMPTS), {}
    options["prompt_embeds"] = torch.stack([row.tokens for row in condition.rows])
    second = "prompt_attention_mask" if kind == "chroma" else "pooled_prompt_embeds"
    options[second] = torch.stack([row.pooled for row in condition.rows])
    if cfg != 1:
        options["negative_prompt_embeds"] = condition.negative.tokens.expand(len(PROMPTS), -1, -1)
        options[f"negative_{second}"] = condition.negative.pooled.expand(len(PROMPTS), -1)
    if kind == "flux":
        options |= {"true_cfg_scale": cfg, "guidance_scale": 3.5, "latents": pack(noise)}
    elif kind == "chroma":
        options |= {"guidance_scale": cfg, "latents": pack(noise)}
    else:
        # Its default levels aren't uniform in time before the shift; FLUX's are.
        options |= {"guidance_scale": cfg, "latents": noise, "sigmas": np.linspace(1, 1 / STEPS, STEPS)}
    result = pipeline(height=height, width=width, num_inference_steps=STEPS, output_type=output_type, **options).images
    assert torch.allclose(pipeline.scheduler.sigmas, policy.sigmas(STEPS), atol=1e-6)
    return result


@pytest.mark.parametrize("cfg", [1.0, 4.5])
@pytest.mark.parametrize("size", [(64, 64), (96, 32)], ids=["square", "wide"])
@torch.no_grad()
def test_an_euler_rollout_ends_where_the_stock_pipeline_ends(kind, folders, policy_of, cfg, size):
    width, height = size
    policy = policy_of(kind, cfg=cfg, width=width, height=height)
    noise = policy.noise([1, 2])
    ours = sample_ode(velocity(policy), noise, policy.sigmas(STEPS))
    theirs = stock(kind, folders[kind], policy, noise, cfg, height, width)
    if kind != "sd3":
        ours = pack(ours)
    difference = float((ours - theirs).abs().max())
    print(f"{kind} cfg {cfg} {width}x{height}: at most {difference:.2e} apart, latents up to {ours.abs().max():.2f}")
    assert difference < TOLERANCE
    assert (ours[0] - ours[1]).abs().max() > 0.1


@torch.no_grad()
def test_images_are_those_of_the_stock_pipeline(kind, folders, policy_of):
    policy = policy_of(kind)
    noise = policy.noise([1, 2])
    images = policy.decode(sample_ode(velocity(policy), noise, policy.sigmas(STEPS)))
    assert images.shape == (2, 64, 64, 3) and images.dtype == torch.float32
    theirs = torch.from_numpy(stock(kind, folders[kind], policy, noise, 1.0, output_type="np"))
    assert float((images - theirs).abs().max()) < TOLERANCE
    assert images.std() > 0.01


@torch.no_grad()
def test_prompts_are_encoded_as_the_stock_pipeline_does(kind, folders, policy_of):
    pipeline = CLASSES[kind].from_pretrained(folders[kind])
    more = {"flux": {"prompt_2": None}, "sd3": {"prompt_2": None, "prompt_3": None}, "chroma": {}}[kind]
    negative = {} if kind == "flux" else {"do_classifier_free_guidance": False}
    given = pipeline.encode_prompt(PROMPTS, max_sequence_length=32, **negative, **more)
    tokens, pooled = (given[0], given[1]) if kind == "flux" else (given[0], given[2])
    condition = policy_of(kind).condition(PROMPTS)
    for row, prompt in enumerate(condition.rows):
        assert torch.allclose(prompt.tokens, tokens[row], atol=1e-5)
        assert torch.allclose(prompt.pooled, pooled[row], atol=1e-5)
    assert not torch.allclose(tokens[0], tokens[1], atol=1e-2)


@torch.no_grad()
def test_guidance_is_told_to_models_that_embed_it(policy_of):
    sigma, latents = 0.5, policy_of("flux").noise([1])
    low, high, default = (
        velocity(policy_of("flux", guidance=guidance), PROMPTS[:1])(latents, sigma) for guidance in (1.0, 3.5, None)
    )
    assert torch.equal(high, default)
    assert (low - high).abs().max() > 1e-4


@torch.no_grad()
def test_noise_levels_may_differ_between_the_rows_of_a_call(kind, policy_of):
    policy = policy_of(kind, cfg=2.0)
    latents, levels = policy.noise([1, 2]), (0.9, 0.3)
    together = velocity(policy)(latents, torch.tensor(levels))
    for row, level in enumerate(levels):
        alone = velocity(policy, [PROMPTS[row]])(latents[row : row + 1], level)
        assert torch.allclose(together[row : row + 1], alone, atol=1e-5)
    assert (velocity(policy)(latents, 0.9)[1] - together[1]).abs().max() > 1e-3


def test_gradients_agree_with_checkpointing_and_with_finite_differences(kind, policy_of):
    def gradient(policy):
        move(policy)
        velocity(policy)(policy.noise([1, 2]), 0.7).square().mean().backward()
        return {name: tensor.grad for name, tensor in policy.adapter_state().items()}

    plain, checkpointed = gradient(policy := policy_of(kind)), gradient(policy_of(kind, gradient_checkpointing=True))
    for name, value in plain.items():
        assert value is not None and torch.allclose(value, checkpointed[name], atol=1e-6), name
    norm = torch.stack([value.square().sum() for value in plain.values()]).sum().sqrt()
    losses = []
    for step in (1e-2, -1e-2):
        with torch.no_grad():
            for name, tensor in policy.adapter_state().items():
                tensor.add_(plain[name] / norm, alpha=step)
            losses.append(float(velocity(policy)(policy.noise([1, 2]), 0.7).double().square().mean()))
            for name, tensor in policy.adapter_state().items():
                tensor.add_(plain[name] / norm, alpha=-step)
    assert (losses[0] - losses[1]) / 2e-2 == pytest.approx(float(norm), rel=0.01)


def test_nothing_but_the_adapter_is_trained_and_off_it_is_the_base(kind, folders, policy_of):
    policy = policy_of(kind)
    before = velocity(policy)(policy.noise([1, 2]), 0.7)
    trained = {id(parameter) for parameter in policy.module.parameters() if parameter.requires_grad}
    assert trained == {id(tensor) for tensor in policy.adapter_state().values()}
    blocks = [name for name, layer in policy.module.transformer.named_modules() if isinstance(layer, nn.Linear)]
    assert len(policy.weights.layers) == sum("base_layer" in name for name in blocks) > 20
    move(policy)
    assert (velocity(policy)(policy.noise([1, 2]), 0.7) - before).abs().max() > 1e-3
    with policy.base():
        assert torch.equal(velocity(policy)(policy.noise([1, 2]), 0.7), before)


@torch.no_grad()
def move(policy, size=0.05):
    """An adapter that does something."""
    generator = torch.Generator().manual_seed(5)
    for _, layer in lora.adapted_layers(policy.module.transformer):
        weight = layer.lora_B["default"].weight
        weight.copy_(size * torch.randn(weight.shape, generator=generator))
