"""A transformer in float16: its gradients are scaled, or a mean loss would make them 0."""

import pytest
import torch

PROMPT = "two blue squares"
LOSS_SCALE = 2e-8  # of a latent value in a real training: see tests/nodes/model/test_precision.py


@pytest.mark.parametrize("kind", ["flux", "sd3"])
def test_gradients_are_those_of_float32(policy_of, kind):
    found = {}
    for dtype in (torch.float32, torch.float16):
        policy = policy_of(kind, dtype=dtype)
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for tensor in policy.adapter_state().values():
                tensor += 0.05 * torch.randn(tensor.shape, generator=generator)
        latents, condition = policy.noise([1, 2]), policy.condition([PROMPT] * 2)
        drawn = torch.randn(latents.shape, generator=torch.Generator().manual_seed(5))
        (policy.module(latents, 0.875, condition) * drawn * LOSS_SCALE).sum().backward()
        found[dtype] = torch.cat([tensor.grad.flatten().double() for tensor in policy.adapter_state().values()])
        assert policy.rescale_gradients() is (dtype == torch.float16)
    assert torch.nn.functional.cosine_similarity(*found.values(), dim=0) > 0.999
