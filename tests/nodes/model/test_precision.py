"""The dtype in which a MODEL is trained: gradients must be those of float32, at the scale that real trainings have."""

import math

import pytest
import torch

from tests.nodes import tiny_models
from tests.nodes.tiny_models import FAMILIES

SIGMA = 0.875


def loss_scale():
    """d loss / d velocity of one latent value, for a loss that is a mean: the card template sd35_medium_16gb.

    512 px, 24 images of 3 prompts, 4 updates, 4 steps, Flow-SDE with eta 0.7 from sigma 0.9 to 0.85.
    """
    values, terms, eta, sigma_next = 16 * 64 * 64, 18 * 4, 0.7, 0.85
    g2 = eta**2 * SIGMA / (1 - SIGMA)
    slope = (1 + g2 * (1 - SIGMA) / (2 * SIGMA)) * (SIGMA - sigma_next)
    return slope / (math.sqrt(g2 * (SIGMA - sigma_next)) * values * terms)


@pytest.fixture(params=FAMILIES)
def family(request, comfy):
    return FAMILIES[request.param]


@pytest.fixture
def encoded(room, family):
    return room("nodes.model.conditioning").Encoded({name: family.prompt(seed) for name, seed in (("red", 1), ("", 4))})


@pytest.fixture
def policy(policy_of, family):
    """`policy(model)`: with a LoRA that has learned something, at cfg 3."""

    def make(model):
        vae = tiny_models.vae(model.model.latent_format.latent_channels)
        # A guidance of 3.5 becomes 3504 instead of 3500 in bfloat16, in stock sampling as here; 4 stays what it is.
        guided = getattr(getattr(model.model.diffusion_model, "params", None), "guidance_embed", False)
        guidance = 4.0 if guided else 0.0
        made = policy_of(model, vae=vae, width=family.size, height=family.size, cfg=1.0, guidance=guidance)
        tiny_models.train_a_little(made)
        return made

    return make


def gradients(policy):
    policy.module.zero_grad()
    latents, condition = policy.noise(range(8)), policy.condition(["red"] * 8)
    drawn = torch.randn(latents.shape, generator=torch.Generator().manual_seed(5))
    (policy.module(latents, SIGMA, condition) * drawn * loss_scale()).sum().backward()
    # Qwen-Image's last block has layers whose output nothing uses.
    return {name: tensor.grad.clone() for name, tensor in policy.adapter_state().items() if tensor.grad is not None}


def half(family):
    """The MODEL in float16, as ComfyUI loads it on a GPU, and one with the same weights in float32."""
    model, exact = family.build(torch.float16), family.build(torch.float32)
    exact.model.load_state_dict({name: tensor.float() for name, tensor in model.model.state_dict().items()})
    return model, exact


def test_a_model_in_float16_is_trained_in_bfloat16(policy, family, monkeypatch):
    model, exact = half(family)
    trained, reference, experts = policy(model), policy(exact), []
    assert trained.dtype == torch.bfloat16 and model.model.get_dtype() == torch.float16
    real = torch.topk

    def chosen(scores, **options):
        experts.append(real(scores, **options).indices)
        return scores.gather(-1, experts[-1]), experts[-1]

    def same(scores, **_):
        return scores.gather(-1, experts[0]), experts.pop(0)

    # HiDream's gate picks two experts for each token by rounded scores: some tokens get others, in stock sampling too.
    monkeypatch.setattr(torch, "topk", chosen)
    found = gradients(trained)
    monkeypatch.setattr(torch, "topk", same)
    expected = gradients(reference)
    print(f"bfloat16: cosine {cosine(found, expected):.5f}")
    assert cosine(found, expected) >= (0.998 if family is FAMILIES["hidream"] else 0.999) and not experts
    assert all(tensor.dtype == torch.float32 for tensor in trained.adapter_state().values())


def test_where_there_is_only_float16_gradients_are_scaled(room, policy, family, monkeypatch):
    monkeypatch.setattr(room("nodes.model.precision"), "_has_bfloat16", lambda device: False)
    model, exact = half(family)
    trained, expected = policy(model), gradients(policy(exact))
    assert trained.dtype == torch.float16
    found = gradients(trained)
    print(f"float16: cosine {cosine(found, expected):.5f}")
    assert cosine(found, expected) >= 0.999


def cosine(one, other):
    flat = [torch.cat([tensor.flatten().double() for tensor in gradients.values()]) for gradients in (one, other)]
    return float(torch.nn.functional.cosine_similarity(*flat, dim=0))


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "float16"])
def test_the_ratio_before_the_first_update(room, policy, monkeypatch, family, kind):
    """Old and new log-probability differ by rounding alone, at another batch size. `pytest -s` prints it."""
    monkeypatch.setattr(room("nodes.model.precision"), "_has_bfloat16", lambda device: False)
    engine = {name: room(f"mixgrpo_engine.{name}") for name in ("rollout", "transitions", "schedule")}
    trained = policy(family.build(getattr(torch, kind)))
    assert trained.dtype == getattr(torch, kind)
    condition, sigmas = trained.condition(["red"] * 6), engine["schedule"].flow_sigmas(4)
    trajectory = engine["rollout"].rollout(
        lambda latents, sigma: trained.module(latents, sigma, condition), trained.noise(range(6)), sigmas, range(1, 3),
        transition="flow_sde", eta=0.7, group_size=6, shared_noise=False,
        generator=[torch.Generator().manual_seed(row) for row in range(6)],
    )  # fmt: skip
    largest = 0.0
    for place, step in enumerate(trajectory.window):
        sigma, sigma_next = sigmas[step : step + 2].tolist()
        for row in range(6):
            before, after = trajectory.states[place, [row]], trajectory.states[place + 1, [row]]
            with torch.no_grad():
                velocity = trained.module(before, sigma, condition.select([row]))
            mean, std = engine["transitions"].flow_sde(before, velocity, sigma, sigma_next, 0.7)
            new = engine["transitions"].log_prob(after, mean, std)
            largest = max(largest, float((torch.exp(new - trajectory.log_probs[place, row]) - 1).abs()))
    print(f"{kind}: largest |ratio - 1| {largest:.1e}")
    assert largest < {"float32": 1e-5, "bfloat16": 5e-3, "float16": 1e-3}[kind]


@pytest.mark.parametrize("family", ["sd3"], indirect=True)
def test_without_scaling_float16_loses_the_gradient(room, policy, family, monkeypatch):
    """What the scaling is for: at a real training's loss nearly all of it is 0."""
    monkeypatch.setattr(room("nodes.model.precision"), "_has_bfloat16", lambda device: False)
    trained = policy(family.build(torch.float16))
    trained.module.gradient_scale = None
    found = gradients(trained)
    zeros = sum(int((tensor == 0).sum()) for tensor in found.values()) / sum(map(torch.numel, found.values()))
    assert zeros > 0.9


def test_every_family_passes_the_audit_of_gradients(room, policy, family):
    """Qwen-Image's last block has layers whose output nothing uses, HiDream experts without a token: they need none."""
    trained = policy(family.build())
    gradients(trained)
    audit = room("mixgrpo_engine.training.gradient_audit").GradientAudit(trained, Alone(), Alone())
    latents, condition = trained.noise([1]), trained.condition(["red"])
    audit.check_layers(lambda: trained.module(latents, SIGMA, condition))


class Alone:
    """One process, that nobody listens to."""

    def any(self, flag):
        return flag

    def notice(self, message):
        assert "do nothing for the first images" in message
