"""torch.compile of ComfyUI's blocks: the same velocities and gradients, and nothing compiled in mid-run."""

import functools

import pytest
import torch
from torch._dynamo.utils import counters

from tests.nodes import tiny_models
from tests.nodes.model.finite_differences import gradients, random_weights


@pytest.mark.parametrize("family, cfg, checkpointing", [("flux", 1.0, True), ("sd3", 3.0, False)])
def test_compiled_blocks_give_the_same_gradients_at_any_number_of_images_and_tokens(
    policy_of, room, monkeypatch, family, cfg, checkpointing
):
    # All but the making of machine code.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    results = []
    for compiles in (False, True):
        policy = policy_of(getattr(tiny_models, family)(), cfg=cfg, gradient_checkpointing=checkpointing)
        tiny_models.train_a_little(policy)

        def at_any_size(policy=policy):
            gradients(policy, ["red"] * 3, random_weights(policy, 3))
            with torch.no_grad():
                policy.module(policy.noise(range(3)), 0.5, policy.condition(["red"] * 3))

        at_any_size()
        if compiles:
            blocks = room("mixgrpo_engine.training.compiled_blocks").CompiledBlocks(policy.module)
            blocks.compile(at_any_size)
            assert len(blocks) == (4 if family == "flux" else 2)
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
