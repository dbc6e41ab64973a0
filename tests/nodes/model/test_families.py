"""Flow families of ComfyUI through its own model code: sampling, an update, the LoRA file, gradients.

`pytest -s` prints the figures of docs/families.md.
"""

import pytest
import torch

from tests.nodes import tiny_models
from tests.nodes.model import stock
from tests.nodes.model.finite_differences import SIGMA, gradients, in_float64, random_weights, slopes

CFG = 3.0


@pytest.fixture(params=tiny_models.FAMILIES)
def name(request, comfy):
    return request.param


@pytest.fixture
def family(name):
    return tiny_models.FAMILIES[name]


@pytest.fixture
def encoded(room, family):
    """As conftest's, with prompts as this family's text encoders give them."""
    prompts = {"red": family.prompt(1), "green": family.prompt(2), "long": family.prompt(3, tokens=12)}
    return room("nodes.model.conditioning").Encoded({**prompts, "": family.prompt(4, tokens=14)})


@pytest.fixture
def policy_for(policy_of, family):
    def make(model, **changes):
        vae = tiny_models.vae(model.model.latent_format.latent_channels)
        return policy_of(model, **{"vae": vae, "width": family.size, "height": family.size, **changes})

    return make


@pytest.mark.parametrize("cfg", [1.0, CFG])
def test_an_euler_rollout_is_stock_sampling(room, name, family, policy_for, encoded, cfg):
    model = family.build()
    policy = policy_for(model, cfg=cfg)
    sigmas = policy.sigmas(stock.STEPS)
    condition = policy.condition(["red", "red"])
    # The same sigmas to the last bit: AuraFlow's time embedding magnifies a difference a thousand times.
    expected, trace = stock.sample(
        model, policy.noise([11, 12]), encoded["red"], encoded[""], cfg, sigmas=sigmas.clone()
    )
    assert len(trace) == stock.STEPS
    for sigma, (x, denoised) in zip(sigmas.tolist(), trace, strict=False):
        with torch.no_grad():
            velocity = policy.module(x, sigma, condition)
        assert (x - sigma * velocity - denoised).abs().max() < 1e-5 * denoised.abs().max()
    ours = room("mixgrpo_engine.rollout").sample_ode(
        lambda latents, sigma: policy.module(latents, sigma, condition), policy.noise([11, 12]), sigmas
    )
    difference = float((ours - expected).abs().max())
    print(f"\nfamily {name}: rollout at cfg {cfg:g}: {difference:.1e} of {float(expected.abs().max()):.1f}")
    assert difference < 1e-4 * float(expected.abs().max())


def test_sigmas_are_the_models_own_and_a_shift_node_changes_them(comfy, family, policy_for):
    from comfy_extras.nodes_model_advanced import ModelSamplingAuraFlow, ModelSamplingFlux, ModelSamplingSD3

    plain = family.build()
    (sd3,) = ModelSamplingSD3().patch(plain, 4.5)
    (aura,) = ModelSamplingAuraFlow().patch_aura(plain, 2.5)
    (flux,) = ModelSamplingFlux().patch(plain, 1.9, 0.5, 1024, 1024)
    own = policy_for(plain).sigmas(8)
    expected = comfy.samplers.calculate_sigmas(plain.get_model_object("model_sampling"), "simple", 8)
    assert torch.allclose(own, expected, atol=1e-3)  # "simple" takes its steps from a table of 1000 (Flux: 10000)
    for model, shift in ((sd3, 4.5), (aura, 2.5), (flux, 2.71828**1.9)):
        policy = policy_for(model)
        middle = shift / (1 + shift)
        assert float(policy.sigmas(2)[1]) == pytest.approx(middle, abs=1e-4)
        assert policy.shift() == pytest.approx(shift, rel=1e-3)
        assert not torch.allclose(policy.sigmas(8), own)


def test_latents_fit_the_model_and_the_vae(family, policy_for):
    model = family.build()
    noise = policy_for(model).noise([1])
    assert noise.shape[1] == model.model.latent_format.latent_channels
    assert noise.ndim == 2 + model.model.latent_format.latent_dimensions
    assert noise.shape[-2:] == (family.size // 8, family.size // 8)


def test_mixed_prompts_and_noise_levels_in_a_batch_equal_them_one_by_one(family, policy_for):
    policy = policy_for(family.build(), cfg=CFG)
    prompts, levels = ["long", "red", "green"], [0.9, 0.4, 0.7]
    x = policy.noise(range(3))
    with torch.no_grad():
        velocity = policy.module(x, torch.tensor(levels), policy.condition(prompts))
        for row, prompt in enumerate(prompts):
            alone = policy.module(x[row : row + 1], levels[row], policy.condition([prompt]))
            assert (velocity[row : row + 1] - alone).abs().max() < 2e-5 * alone.abs().max()


def test_an_update_changes_the_lora_alone_and_stock_loaders_read_it(
    room, name, family, policy_for, encoded, tmp_path, caplog
):
    engine = {part: room(f"mixgrpo_engine.{part}") for part in ("rollout", "transitions", "objective")}
    model = family.build()
    policy = policy_for(model, cfg=CFG)
    shared = {key: tensor.clone() for key, tensor in model.model.state_dict().items()}
    own = {key: tensor.clone() for key, tensor in policy.module.state_dict().items()}
    condition = policy.condition(["red"] * 4)
    trajectory = engine["rollout"].rollout(
        lambda latents, sigma: policy.module(latents, sigma, condition.select(range(len(latents)))),
        policy.noise([5]),
        policy.sigmas(6),
        range(1, 3),
        transition="flow_sde",
        eta=0.7,
        group_size=4,
        generator=torch.Generator().manual_seed(1),
        shared_noise=True,
    )
    optimizer = torch.optim.AdamW([p for p in policy.module.parameters() if p.requires_grad], lr=1e-2)
    for turn in range(2):  # B is zero at first, and A gets no gradient before it isn't
        for index, step in enumerate(trajectory.window):
            sigma, sigma_next = trajectory.sigmas[step : step + 2].tolist()
            velocity = policy.module(trajectory.states[index], sigma, condition)
            transition = engine["transitions"].flow_sde(trajectory.states[index], velocity, sigma, sigma_next, 0.7)
            log_prob = engine["transitions"].log_prob(trajectory.states[index + 1], *transition)
            if turn == 0:  # the update sees the very policy that rolled out
                assert torch.allclose(log_prob.exp(), trajectory.log_probs[index].exp(), rtol=1e-5)
            advantages = torch.tensor([1.0, -1.0, 0.5, -0.5])
            engine["objective"].policy_loss(log_prob, trajectory.log_probs[index], advantages, 1.0).backward()
        optimizer.step()
        optimizer.zero_grad()

    after = policy.module.state_dict()
    changed = {key for key in own if not torch.equal(own[key], after[key])}
    assert changed and all("lora_" in key for key in changed)
    assert {key for key in changed if "lora_B" in key} and {key for key in changed if "lora_A" in key}
    assert all(torch.equal(tensor, shared[key]) for key, tensor in model.model.state_dict().items())

    tiny_models.train_a_little(policy)  # more than two steps do, so that a missing layer would show
    patched = stock.with_lora_of(policy, model, tmp_path / "run.safetensors", caplog)
    x = policy.noise([3])
    loaded = stock.one_velocity(patched, x, 0.6, encoded["red"], encoded[""], CFG)
    with torch.no_grad():
        trained = policy.module(x, 0.6, policy.condition(["red"]))
        with policy.base():
            original = policy.module(x, 0.6, policy.condition(["red"]))
    difference = float((loaded - trained).abs().max())
    layers, largest = len(policy.adapted_layers), float(trained.abs().max())
    print(f"\nfamily {name}: LoRA of {layers} layers: {difference:.1e} of {largest:.1f}")
    assert difference < 2e-5 * largest
    assert (trained - original).abs().max() > 1e-2


def test_every_adapter_gradient_agrees_with_finite_differences(family, policy_for):
    policy = policy_for(family.build(dtype=torch.float64), rank=2, cfg=CFG, gradient_checkpointing=True)
    outputs = in_float64(policy)
    tiny_models.train_a_little(policy)
    weights = random_weights(policy)
    _, found = gradients(policy, ["red"], weights)
    unused = 0
    for layer, slope, norm in slopes(policy, outputs, weights, CFG, found):
        assert slope == pytest.approx(norm, rel=1e-5, abs=1e-9), layer
        unused += norm == 0
    # Some compute the text of their last block and drop it (Qwen-Image): a LoRA there does nothing.
    assert unused < len(found) / 2


def test_checkpointing_changes_no_gradient(family, policy_for):
    found = []
    for checkpointing in (False, True):
        policy = policy_for(family.build(), gradient_checkpointing=checkpointing, cfg=2.0)
        tiny_models.train_a_little(policy)
        policy.module(policy.noise([1, 2]), SIGMA, policy.condition(["red", "long"])).square().mean().backward()
        grads = [tensor.grad for tensor in policy.adapter_state().values() if tensor.grad is not None]
        found.append(torch.cat([grad.flatten() for grad in grads]))
    plain, checkpointed = found
    assert plain.norm() > 0
    assert (plain - checkpointed).norm() <= 1e-6 * plain.norm()
