"""The estimate, made on a copy without data, against what the allocator writes down of the real calls."""

import pytest
import torch

from benchmarks.measured_bytes import measured_peak
from tests.nodes import tiny_models
from tests.nodes.model.finite_differences import SIGMA

FAMILIES = ["sd3", "flux", "auraflow", "lumina2", "qwen_image"]
GB = 2**30


@pytest.fixture
def settings(room):
    def make(**groups):
        size = {"width": tiny_models.SIZE, "height": tiny_models.SIZE, **groups.pop("run", {})}
        return room("mixgrpo_engine.config").TrainConfig.from_dict({"adapter": {"rank": 4}, "run": size, **groups})

    return make


@pytest.fixture
def check_of(room, encoded):
    def make(model, rewards=(), prompts=("red", "green")):
        vae = tiny_models.vae(model.model.latent_format.latent_channels)
        return room("nodes.model.preflight").Preflight(model, vae, encoded, prompts, rewards)

    return make


@pytest.fixture
def free(room, monkeypatch):
    """`free(bytes)`: so much is free from now on."""
    return lambda size: monkeypatch.setattr(room("nodes.model.preflight"), "free_bytes", lambda device: int(size))


def calls(policy, images, kl):
    """(a model call with its backward pass, one without gradient), as the trainer makes them."""
    latents, condition = policy.noise(range(images)), policy.condition(["red"] * images)
    condition.plan()

    def update():
        velocity, base = policy.module(latents, SIGMA, condition), 0.0
        if kl:
            with policy.base(), torch.no_grad():
                base = policy.module(latents, SIGMA, condition)
        (velocity - base).square().mean().backward()

    def rollout():
        with torch.no_grad():
            policy.module(latents, SIGMA, condition)

    return update, rollout


def assert_near(estimate, measured):
    assert -0.05 < estimate / measured - 1 < 0.15, (estimate, measured)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_estimate_is_what_is_allocated(comfy, settings, check_of, policy_of, family, checkpointing):
    model = getattr(tiny_models, family)()
    run = {"gradient_checkpointing": checkpointing}
    needs = check_of(model).needs(settings(run=run))
    policy = policy_of(model, vae=tiny_models.vae(model.model.latent_format.latent_channels), **run)
    calls(policy, 1, False)[0]()  # makes the gradients, which are counted with the adapter
    for images in (1, 2, 4):
        update, rollout = calls(policy, images, False)
        assert_near(needs.update.of(images), measured_peak(update))
        assert_near(needs.rollout.of(images), measured_peak(rollout))


@pytest.mark.parametrize(
    "changes",
    [
        {"cfg": 3.0},
        {"kl": True},
        {"dtype": torch.bfloat16, "compute_dtype": torch.float32},
        {"dtype": torch.bfloat16, "patched": torch.float32},  # by ModelComputeDtype
    ],
    ids=str,
)
def test_the_estimate_knows_guidance_kl_and_casts(build, settings, check_of, policy_of, changes):
    changes = dict(changes)
    cfg, kl, patched = changes.pop("cfg", 1.0), changes.pop("kl", False), changes.pop("patched", None)
    model = build(**changes)
    if patched:
        model.set_model_compute_dtype(patched)
    needs = check_of(model).needs(settings(rollout={"cfg": cfg}, loss={"kl_weight": 0.1 * kl}))
    policy = policy_of(model, cfg=cfg)
    calls(policy, 1, kl)[0]()
    for images in (1, 3):
        assert_near(needs.update.of(images), measured_peak(calls(policy, images, kl)[0]))


def test_a_larger_picture_of_a_larger_model(comfy, settings, check_of, policy_of, monkeypatch):
    size = {"width": 256, "height": 256}
    model = tiny_models.flux()
    needs = check_of(model).needs(settings(run=size))
    policy = policy_of(model, **size)
    calls(policy, 1, False)[0]()
    assert_near(needs.update.of(2), measured_peak(calls(policy, 2, False)[0]))


def test_gradient_checkpointing_needs_less(build, settings, check_of):
    check = check_of(build())
    plain, careful = (check.needs(settings(run={"gradient_checkpointing": on})) for on in (False, True))
    assert careful.update.each < 0.7 * plain.update.each
    assert careful.rollout == plain.rollout


def test_weights_and_adapter_are_counted(build, settings, check_of, policy_of, room):
    model = build(dtype=torch.bfloat16)
    check = check_of(model)
    policy = policy_of(model)
    values = sum(tensor.numel() for tensor in policy.adapter_state().values())
    assert check.needs(settings()).adapter == 16 * values
    assert check.needs(settings()).weights == 0, "on the CPU they are where they have to be"
    moved = room("nodes.model.decoding").bytes_to_move(model.model, torch.device("cuda"))
    assert moved == sum(parameter.nbytes for parameter in model.model.state_dict().values())


def test_the_model_is_left_as_it_was(build, settings, check_of):
    model = build()
    before = {name: (tensor, tensor.clone()) for name, tensor in model.model.state_dict(keep_vars=True).items()}
    check_of(model).report(settings())
    for name, tensor in model.model.state_dict(keep_vars=True).items():
        assert tensor is before[name][0] and torch.equal(tensor, before[name][1]), name


def test_batch_sizes_follow_what_is_free(build, room, settings, check_of, free):
    plan, check, config = room("nodes.model.preflight").plan, check_of(build()), settings()
    needs = check.needs(config)
    free(100 * GB)
    chosen, told = plan(check, config)
    assert (chosen.rollout.batch_size, chosen.optimizer.batch_size) == (0, 12), "3 images at 4 steps in one call"
    assert "rollout_batch_size 12, update_batch_size 12." in told
    free(needs.always + GB // 2 + 1.1 * needs.update.of(2) + 1000)
    chosen, told = plan(check, config)
    assert chosen.optimizer.batch_size == 2 and "update_batch_size 2." in told
    assert config.optimizer.batch_size == 0, "the run's own settings stay"


def test_a_gpu_that_is_too_small_is_refused_and_a_cpu_warned(build, room, settings, check_of, free):
    plan, check, config = room("nodes.model.preflight").plan, check_of(build()), settings()
    careful = check.needs(settings(run={"gradient_checkpointing": True})).least()
    free(1)
    chosen, told = plan(check, config)
    assert "are free" in told and chosen.optimizer.batch_size == 1
    check.device = torch.device("cuda")  # nothing is moved there: the weights count as missing
    weights = room("nodes.model.decoding").bytes_to_move(check.model.model, check.device)
    with pytest.raises(MemoryError, match="a device with more memory"):
        plan(check, config)
    assert weights > 0 and careful > 0
    chosen, told = plan(check, settings(run={"try_anyway": True}))
    assert "a device with more memory" in told and chosen.optimizer.batch_size == 1


def test_what_is_too_large_for_a_gpu_stays_in_host_memory(comfy, room, settings, check_of, free, monkeypatch):
    plan, check = room("nodes.model.preflight").plan, check_of(tiny_models.flux())
    monkeypatch.setattr(room("mixgrpo_engine.memory.estimate"), "WORKSPACE", 0)
    monkeypatch.setattr(room("nodes.model.preflight"), "decode_bytes", lambda vae, shape: 0)
    free(1)
    assert plan(check, settings())[0].run.swapped_blocks == 0, "on a CPU that wins nothing"
    check.device = torch.device("cuda")  # nothing is moved there: the weights count as missing
    needs = check.needs(settings(run={"gradient_checkpointing": True}))
    assert len(needs.blocks) == 4 and sum(needs.blocks) < needs.weights
    free(needs.swapping(3).always + 1.1 * needs.update.of(1) + 1)
    config = settings()
    planned, told = plan(check, config)
    assert planned.run.swapped_blocks == 3 and planned.run.gradient_checkpointing
    assert not config.run.gradient_checkpointing, "the run's own settings stay"
    assert "3 of 4 blocks stay in host memory" in told
    assert told.endswith("gradient_checkpointing is switched on for it.")
    with pytest.raises(MemoryError, match="set swapped_blocks to -1"):
        plan(check, settings(run={"swapped_blocks": 0, "gradient_checkpointing": True}))


def test_a_refusal_names_gradient_checkpointing_first(build, room, settings, check_of, free, monkeypatch):
    check, config = check_of(build()), settings()
    monkeypatch.setattr(room("mixgrpo_engine.memory.estimate"), "WORKSPACE", 0)
    monkeypatch.setattr(room("nodes.model.preflight"), "decode_bytes", lambda vae, shape: 0)
    plain, careful = (check.needs(settings(run={"gradient_checkpointing": on})).least() for on in (False, True))
    assert careful < plain
    free((plain + careful) // 2)
    report = check.report(config)
    assert not report.plan.fits and ": switch on gradient_checkpointing (about" in report.too_much()


def test_a_model_that_needs_its_data_costs_the_estimate_and_nothing_else(build, room, settings, check_of):
    model = build()
    check, config = check_of(model), settings()
    # A layer that looks at its values, as some models do.
    model.model.diffusion_model.forward = lambda x, *args, **kwargs: x * float(x.sum())
    chosen, told = room("nodes.model.preflight").plan(check, config)
    assert chosen is config and "can't be estimated" in told


def test_newer_comfyui_is_told_of_the_training_before_the_estimate(build, settings, check_of, monkeypatch):
    """Its fast kernels have no gradient, and refuse tensors without data."""
    import comfy.model_management as management

    monkeypatch.setattr(management, "in_training", False, raising=False)
    seen, model = [], build()
    model.model.diffusion_model.register_forward_pre_hook(lambda *_: seen.append(management.in_training))
    check_of(model).needs(settings())
    assert seen and all(seen)


def test_scorers_say_what_they_need(build, settings, check_of):
    class Large:
        def device_bytes(self):
            return 3 * GB

    assert check_of(build(), [Large(), object()]).needs(settings()).scorers == 3 * GB
