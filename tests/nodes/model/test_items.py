"""Conditionings with pictures: the policy samples and learns as stock sampling does with the same conditioning.

`pytest -s` prints the figures of docs/items.md.
"""

import pytest
import torch

from tests.nodes import tiny_models
from tests.nodes.model import finite_differences, stock
from tests.nodes.model.test_untrainable import flux as flux_of
from tests.nodes.model.test_untrainable import wan

NEGATIVE, NAMES = "", ("a [1.png]", "a [2.png]", "a [3.png]")


def picture(seed, *shape):
    return torch.randn(1, *shape, generator=torch.Generator().manual_seed(seed))


def with_extras(prompt, **extras):
    """As node_helpers.conditioning_set_values, which the stock nodes end in."""
    ((tokens, before),) = prompt
    return [[tokens, {**before, **extras}]]


def kontext(seed):
    """ReferenceLatent; the third picture has another size."""
    return with_extras(
        tiny_models.conditioning(seed), reference_latents=[picture(seed, 16, 16, 24 if seed == 3 else 16)]
    )


def flux2(seed):
    """ReferenceLatent, two pictures."""
    pictures = [picture(seed + more, 128, 8, 8) for more in (0, 70)]
    return with_extras(tiny_models.FAMILIES["flux2"].prompt(seed), reference_latents=pictures)


def omnigen2(seed):
    """ReferenceLatent, and the text encoder's mask."""
    tokens = tiny_models.conditioning(seed)[0][0]
    mask = torch.ones(1, tokens.shape[1], dtype=torch.long)
    return [[tokens, {"attention_mask": mask, "reference_latents": [picture(seed, 16, 16, 16)]}]]


def redux(seed):
    """StyleModelApply by attn_bias, FLUX Redux: a picture's tokens behind the text's, and a mask of biases."""
    from nodes import StyleModelApply

    class StyleModel:
        def get_cond(self, seen):
            return picture(seed + 30, 6, tiny_models.CONTEXT)

    (styled,) = StyleModelApply().apply_stylemodel(
        tiny_models.conditioning(seed), StyleModel(), None, strength=0.5, strength_type="attn_bias"
    )
    return styled


def qwen_edit(seed):
    """TextEncodeQwenImageEdit: the picture in the tokens, too, which are longer or shorter."""
    prompt = tiny_models.FAMILIES["qwen_image"].prompt(seed, 8 + seed)
    return with_extras(prompt, reference_latents=[picture(seed, 16, 1, 16, 16)])


def fill(seed, height=16, width=16):
    """InpaintModelConditioning: the picture without what the mask covers, in latents, and the mask in pixels."""
    mask = (picture(seed + 50, 1, 8 * height, 8 * width) > 0).float()
    latents = picture(seed, 16, height, width)
    return with_extras(tiny_models.conditioning(seed), concat_latent_image=latents, concat_mask=mask)


def wan_i2v(seed, height=16, width=16):
    """WanImageToVideo: the picture as the first frame, the mask of what is given, and what CLIP vision saw."""
    import comfy.clip_vision

    seen = comfy.clip_vision.Output()
    seen["penultimate_hidden_states"] = picture(seed + 90, 257, 1280)
    frame = picture(seed, 16, 1, height, width)
    mask = torch.zeros(1, 1, 1, height, width)
    return with_extras(
        tiny_models.FAMILIES["wan21"].prompt(seed), concat_latent_image=frame, concat_mask=mask, clip_vision_output=seen
    )


MODELS = {
    "kontext": (tiny_models.flux, kontext),
    "flux2": (tiny_models.flux2, flux2),
    "omnigen2": (tiny_models.omnigen2, omnigen2),
    "redux": (tiny_models.flux, redux),
    "qwen_edit": (tiny_models.qwen_image, qwen_edit),
    "fill": (lambda: flux_of(96), fill),
    "wan_i2v": (lambda: wan("WAN21_I2V", model_type="i2v", in_dim=36), wan_i2v),
}


@pytest.fixture
def policy_over(room):
    """A ComfyPolicy of a MODEL over these conditionings."""

    def make(model, encoded, cfg=1.0):
        adapter = room("mixgrpo_engine.config").AdapterConfig(rank=4)
        size = {"width": tiny_models.SIZE, "height": tiny_models.SIZE}
        vae = tiny_models.vae(model.model.latent_format.latent_channels)
        return room("nodes.model.policy").ComfyPolicy(model, vae, encoded, **size, adapter=adapter, seed=3, cfg=cfg)

    return make


@pytest.fixture(params=MODELS)
def edits(request, comfy, room, policy_over, tmp_path):
    """(MODEL, conditioning of an item and kind, policy over what was stored, of a cfg), for each kind of model."""
    build, make = MODELS[request.param]
    conditioning = room("nodes.model.conditioning")
    made = {name: (make(seed), make(seed + 10)) for seed, name in enumerate(NAMES, 1)}
    stored = room("nodes.model.encodings").StoredEncodings(tmp_path, NAMES, of_items=True)
    stored.make(
        lambda names, told: conditioning.Encoded({name: conditioning.item_inputs(*made[name], None) for name in names})
    )
    model = build()
    return model, made, lambda cfg: policy_over(model, stored, cfg)


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_a_rollout_is_stock_ksampler_with_the_items_own_negatives(edits, cfg, request):
    model, made, policy_for = edits
    policy = policy_for(cfg)
    noise, latents = policy.noise(range(3)), policy.noise(range(3))
    condition = policy.condition(NAMES)
    sigmas = policy.sigmas(stock.STEPS).tolist()
    with torch.no_grad():
        for sigma, sigma_next in zip(sigmas[:-1], sigmas[1:], strict=True):
            latents = latents - (sigma - sigma_next) * policy.module(latents, sigma, condition)
    differences, largest = [], []
    for row, name in enumerate(NAMES):
        expected, _ = stock.sample(model, noise[row : row + 1], *made[name], cfg)
        differences.append(float((latents[row] - expected[0]).abs().max()))
        largest.append(float(expected.abs().max()))
        assert differences[-1] < 1e-4 * largest[-1]
        other, _ = stock.sample(model, noise[row : row + 1], *made[NAMES[row - 1]], cfg)
        assert (other - expected).abs().max() > 1e-2 * expected.abs().max()  # the picture matters
    print(f"\nrollout {request.node.callspec.id}: {max(differences):.1e} of {max(largest):.1f}")


@pytest.mark.parametrize("kind", ["fill", "wan_i2v"])
def test_an_item_has_the_size_of_its_latent(comfy, room, policy_over, tmp_path, kind):
    """With the item's own negative, and with one prompt for all, which has no size."""
    build, make = MODELS[kind]
    model, conditioning = build(), room("nodes.model.conditioning")
    sizes = {name: size for name, size in zip(NAMES, [(16, 16), (16, 24), (12, 16)], strict=True)}
    made = {name: (make(seed, *sizes[name]), make(seed + 10, *sizes[name])) for seed, name in enumerate(NAMES, 1)}
    stored = room("nodes.model.encodings").StoredEncodings(tmp_path, NAMES, of_items=True)

    def items(names, told):
        empty = {name: {"samples": torch.zeros(1, 16, *sizes[name])} for name in names}
        found = {name: conditioning.item_inputs(*made[name], empty[name]) for name in names}
        for name in names:
            room("nodes.model.item_checks").check_alike(name, found[name], found[NAMES[0]])
        return conditioning.Encoded(found)

    stored.make(items)
    assert stored.latent_shapes() == items(NAMES, None).latent_shapes()
    policy = policy_over(model, stored, 3.0)
    sigmas = policy.sigmas(stock.STEPS).tolist()
    for name in NAMES:
        noise = policy.noise([1], name)
        assert noise.shape[1:] == policy.shape_of(name) and noise.shape[-2:] == sizes[name]
        latents, condition = noise, policy.condition([name])
        with torch.no_grad():
            for sigma, sigma_next in zip(sigmas[:-1], sigmas[1:], strict=True):
                latents = latents - (sigma - sigma_next) * policy.module(latents, sigma, condition)
        expected, _ = stock.sample(model, noise, *made[name], 3.0)
        assert (latents - expected).abs().max() < 1e-4 * expected.abs().max()


def test_gradients_of_an_items_row_are_those_of_the_item_alone(edits):
    _, _, policy_for = edits
    policy = policy_for(3.0)
    tiny_models.train_a_little(policy)
    weights = finite_differences.random_weights(policy, 2)
    _, together = finite_differences.gradients(policy, NAMES[:2], weights)
    together = {name: grad.clone() for name, grad in together.items() if grad is not None}
    assert together and all(grad.isfinite().all() for grad in together.values())
    x = policy.noise(range(2))
    sums = {name: torch.zeros_like(grad) for name, grad in together.items()}
    for row in range(2):
        for tensor in policy.adapter_state().values():
            tensor.grad = None
        velocity = policy.module(x[row : row + 1], finite_differences.SIGMA, policy.condition(NAMES[row : row + 1]))
        (velocity.double() * weights[row : row + 1]).sum().backward()
        for name in sums:
            sums[name] += policy.adapter_state()[name].grad
    for name, grad in together.items():
        assert (grad - sums[name]).abs().max() < 1e-3 * sums[name].abs().max() + 1e-6, name


def test_its_lora_in_the_stock_loader_is_the_trained_model(edits, tmp_path, caplog, request):
    model, made, policy_for = edits
    policy = policy_for(1.0)
    tiny_models.train_a_little(policy)
    patched = stock.with_lora_of(policy, model, tmp_path / "edit.safetensors", caplog)
    x = policy.noise([5])
    expected = stock.one_velocity(patched, x, 0.6, *made[NAMES[0]])
    with torch.no_grad():
        own = policy.module(x, 0.6, policy.condition(NAMES[:1]))
    difference, largest = float((own - expected).abs().max()), float(expected.abs().max())
    print(f"\nLoRA {request.node.callspec.id}: {difference:.1e} of {largest:.1f}")
    assert difference < 1e-4 * largest


def test_the_memory_estimate_counts_pictures(edits, room):
    model, _, policy_for = edits
    policy = policy_for(1.0)
    preflight = room("nodes.model.preflight").Preflight(model, policy.vae, policy.encoded, NAMES)
    config = room("mixgrpo_engine.config").TrainConfig()
    config.run.width = config.run.height = tiny_models.SIZE
    config.rollout.cfg = 3.0
    assert preflight.needs(config).kept > 16 * 16 * 16 * 4 * len(NAMES)


def refusal(policy_over, room, model, made, cfg=1.0):
    conditioning = room("nodes.model.conditioning")
    encoded = conditioning.Encoded({"a [1.png]": conditioning.item_inputs(*made), "": tiny_models.conditioning(9)})
    with pytest.raises(ValueError) as told:
        policy_over(model, encoded, cfg)
    return str(told.value)


def test_what_a_model_would_ignore_stretch_or_miss_is_refused(comfy, policy_over, room):
    ignored = refusal(policy_over, room, tiny_models.sd3(), (kontext(1), None, None))
    assert "(SD3) takes nothing from 'reference_latents'" in ignored
    larger = with_extras(fill(1), concat_latent_image=picture(1, 16, 24, 16))
    assert "24 x 16 latents, and 16 x 16 are trained" in refusal(policy_over, room, flux_of(96), (larger, None, None))
    plain = tiny_models.conditioning(1)
    assert "needs a picture and its mask" in refusal(policy_over, room, flux_of(96), (plain, None, None))
    no_negative = refusal(policy_over, room, flux_of(96), (fill(1), None, None), cfg=3.0)
    assert "negative of MixGRPO Train brings none" in no_negative
    frames = {"samples": torch.zeros(1, 16, 3, 16, 16)}
    i2v = refusal(policy_over, room, MODELS["wan_i2v"][0](), (wan_i2v(1), None, frames))
    assert "latent is [1, 16, 3, 16, 16], and [1, 16, 1, 16, 16] is trained" in i2v


def test_items_of_other_kinds_and_sizes_are_refused_as_they_are_made(comfy, room):
    conditioning, checks = room("nodes.model.conditioning"), room("nodes.model.item_checks")

    def told(positive, latent=None, first=None):
        made = conditioning.item_inputs(positive, None, latent)
        with pytest.raises(ValueError) as error:
            checks.check_alike("b [2.png]", made, conditioning.item_inputs(fill(1), None, first))
        return str(error.value)

    checks.check_alike("b", *[conditioning.item_inputs(kontext(seed), None, None) for seed in (3, 1)])
    assert "has no 'concat_mask', the first item's 1 x 1 x 128 x 128 'concat_mask'" in told(
        with_extras(tiny_models.conditioning(2), concat_latent_image=picture(1, 16, 16, 16))
    )
    assert "1 x 16 x 8 x 16 'concat_latent_image'" in told(
        with_extras(fill(2), concat_latent_image=picture(1, 16, 8, 16))
    )
    assert "latent of 'b [2.png]' is [1, 16, 16, 16]" in told(
        fill(2), {"samples": torch.zeros(1, 16, 16, 16)}, {"samples": torch.zeros(1, 16, 3, 16, 16)}
    )
    assert "1 x 16 x 16 x 16 'concat_latent_image'" in told(
        fill(2), {"samples": torch.zeros(1, 16, 16, 24)}, {"samples": torch.zeros(1, 16, 16, 16)}
    )
    assert "takes one" in told(fill(1) + fill(2))
    # A picture of a fixed size, whatever the latents', is alike; one that has to be the latents' size isn't.
    fixed = [
        with_extras(tiny_models.conditioning(seed), face_video_pixels=picture(seed, 3, 1, 32, 32)) for seed in (1, 2)
    ]
    latents = [{"samples": torch.zeros(1, 16, size, 16)} for size in (16, 24)]
    checks.check_alike(
        "b", *[conditioning.item_inputs(*each) for each in zip(fixed, (None, None), latents, strict=True)]
    )
    assert "'concat_latent_image'" in told(
        with_extras(fill(2), concat_latent_image=picture(1, 16, 16, 16)),
        {"samples": torch.zeros(1, 16, 24, 16)}, {"samples": torch.zeros(1, 16, 16, 16)},
    )  # fmt: skip
    assert "has 'control'" in told(with_extras(fill(2), control=object()))
    batch = with_extras(kontext(1), reference_latents=[torch.zeros(3, 16, 16, 16)])
    with pytest.raises(ValueError, match="'reference_latents' in positive of 'c' holds a batch of pictures"):
        made = conditioning.item_inputs(batch, None, None)
        checks.check_alike("c", made, made)
    with pytest.raises(ValueError, match="has a noise mask"):
        conditioning.item_inputs(fill(1), None, {"samples": torch.zeros(1), "noise_mask": torch.zeros(1)})


def test_stored_items_are_what_was_made(comfy, room, tmp_path):
    """Shared tensors once, numpy's numbers, tuples, numbered keys, what CLIP vision saw, a latent that isn't empty."""
    import numpy as np

    conditioning = room("nodes.model.conditioning")
    shared = torch.randn(1, 16, 64, 64)
    positive = with_extras(
        wan_i2v(1), reference_latents=[shared], weight=np.float32(0.5), sizes=(2, 3), layers={1: shared, 2: None}
    )
    negative = with_extras(tiny_models.conditioning(2), reference_latents=[shared])
    latent = {"samples": torch.full((1, 16, 8, 8), 2.0)}
    path = tmp_path / "items.safetensors"
    conditioning.save(conditioning.Encoded({"a": conditioning.item_inputs(positive, negative, latent)}), path)
    assert path.stat().st_size < 1.2 * (shared.nbytes + 257 * 1280 * 4 + 2**16 + 16384 * 4)
    found = conditioning.load(path).of_item("a")
    extras = found.positive[0][1]
    assert torch.equal(extras["reference_latents"][0], shared) and torch.equal(extras["layers"][1], shared)
    assert extras["reference_latents"][0] is extras["layers"][1]
    assert (extras["weight"], extras["sizes"], extras["layers"][2]) == (0.5, (2, 3), None)
    seen = positive[0][1]["clip_vision_output"].penultimate_hidden_states
    assert torch.equal(extras["clip_vision_output"].penultimate_hidden_states, seen)
    assert torch.equal(found.negative[0][0], negative[0][0])
    assert found.latent_shape == (1, 16, 8, 8) and float(found.latent.mean()) == 2
