"""torch.compile of ComfyUI's blocks: the same velocities and gradients, and nothing compiled in mid-run."""

import functools
from types import SimpleNamespace

import torch
from torch._dynamo.utils import counters

from tests.nodes import tiny_models
from tests.nodes.model.finite_differences import gradients, random_weights


def test_compiled_blocks_give_the_same_gradients_at_any_number_of_images_and_tokens(policy_of, room, monkeypatch):
    # All but the making of machine code.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    results = []
    for compiles in (False, True):
        policy = policy_of(tiny_models.flux(), cfg=3.0, gradient_checkpointing=True)
        tiny_models.train_a_little(policy)

        def at_any_size(policy=policy):
            gradients(policy, ["red"] * 3, random_weights(policy, 3))
            with torch.no_grad():
                policy.module(policy.noise(range(3)), 0.5, policy.condition(["red"] * 3))

        at_any_size()
        if compiles:
            blocks = room("mixgrpo_engine.training.compiled_blocks").CompiledBlocks(policy.module)
            blocks.compile(at_any_size)
            assert len(blocks) == 4
        graphs = counters["stats"]["unique_graphs"]
        prompts = ["red", "green", "red", "long", "long"]
        results.append(gradients(policy, prompts, random_weights(policy, 5)))
        with torch.no_grad():
            velocity = policy.module(policy.noise(range(5)), 0.7, policy.condition(prompts))
        torch.testing.assert_close(velocity, results[-1][0])  # the rollout's and the update's
        assert counters["stats"]["unique_graphs"] == graphs
    (velocity, plain), (velocity_again, again) = results
    torch.testing.assert_close(velocity_again, velocity)
    for name, gradient in plain.items():
        assert gradient.norm() > 0 and (gradient - again[name]).norm() <= 1e-5 * gradient.norm(), name


def test_a_quantised_model_without_checkpointing_stays_as_it_is_with_one_notice(policy_of, room):
    policy, told = policy_of(tiny_models.flux(torch.float8_e4m3fn, torch.bfloat16)), []
    pulse = room("mixgrpo_engine.training.pulse").Pulse(told.append, lambda: False, 1)
    config, ranks = room("mixgrpo_engine.config").TrainConfig(), SimpleNamespace(split=False, count=1)
    room("mixgrpo_engine.training.compiled_blocks").compile_ahead(policy, policy.module, "red", config, pulse, ranks)
    (notice,) = told
    assert "quantised layers can be compiled with gradient_checkpointing only" in notice.message
