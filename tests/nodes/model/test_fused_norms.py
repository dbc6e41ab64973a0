"""Operators without a backward pass get that of what they stand for. The package that has them needs newer ComfyUI."""

import torch
from torch import Tensor


def reference(query: Tensor, key: Tensor, scale: Tensor, epsilon: float = 1e-6):
    def norm(x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon) * scale

    return norm(query), 2 * norm(key)


@torch.library.custom_op("mixgrpo_test::norms", mutates_args=())
def fused(query: Tensor, key: Tensor, scale: Tensor, epsilon: float = 1e-6) -> tuple[Tensor, Tensor]:
    return tuple(each.clone() for each in reference(query, key, scale, epsilon))


def test_the_gradient_is_that_of_the_reference(room):
    generator = torch.Generator().manual_seed(0)
    query, key, scale = (torch.randn(shape, generator=generator) for shape in ((2, 3, 4), (2, 3, 4), (4,)))
    room("nodes.model.fused_norms").give_gradient("mixgrpo_test::norms", reference)

    def gradients(function, *arguments):
        mine, others = query.clone().requires_grad_(True), key.clone().requires_grad_(True)
        first, second = function(mine, others, scale, *arguments)
        (first.sum() + second.square().sum()).backward()
        return mine.grad, others.grad

    for arguments in ((), (1e-3,)):
        for found, wanted in zip(gradients(fused, *arguments), gradients(reference, *arguments), strict=True):
            torch.testing.assert_close(found, wanted)
    assert fused(query.requires_grad_(True), key, scale)[0].requires_grad
