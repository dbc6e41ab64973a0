"""The most that is alive at once, with known answers, on the CPU and without data."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from mixgrpo_engine.live_bytes import LiveBytes, attention_without_matrix, peak_bytes

KB = 1024


def vector(device):
    return torch.ones(KB // 4, device=device)  # 1 KB of float32


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_what_is_alive_at_once_counts(device):
    before = vector(device)

    def work():
        a = before + 1
        b = a * 2  # a, b
        del a
        c = b + before  # b, c: as much as before
        del b
        return torch.cat([c, c, c])  # c and three of it

    assert peak_bytes(work) == 4 * KB


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_views_and_updates_in_place_cost_nothing(device):
    before = vector(device)

    def work():
        before.view(16, 16).t()[2:].mul_(2)
        before.add_(1)
        one = before.clone()
        return one.view(-1, 2).chunk(4)

    assert peak_bytes(work) == KB


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_what_the_backward_pass_keeps_is_alive(device):
    weights = vector(device).requires_grad_()

    def work():
        x = weights
        for _ in range(10):
            x = x.exp()  # keeps its output
        x.sum().backward()

    # Ten outputs, and at the first step backwards the gradient with its product.
    assert peak_bytes(work) == pytest.approx(12 * KB, abs=KB)


def test_everything_is_free_again_afterwards():
    with LiveBytes() as counter:
        kept = vector("cpu") + 1
        for _ in range(3):
            vector("cpu") * 2
        assert counter.now == KB
        del kept
        assert counter.now == 0 and counter.peak > 0


def test_attention_without_data_keeps_no_matrix():
    q, k, v = (torch.empty(1, 2, 512, 16, device="meta", requires_grad=True) for _ in range(3))
    size = 2 * 512 * 16 * 4

    def work():
        scaled_dot_product_attention(q, k, v).sum().backward()

    assert peak_bytes(work) > 2 * 512 * 512 * 4
    with attention_without_matrix():
        output = scaled_dot_product_attention(q, k, v)
        assert output.shape == q.shape and peak_bytes(lambda: scaled_dot_product_attention(q, k, v)) == size + 4096
    output.sum().backward()
    assert q.grad.shape == q.shape and k.grad.shape == k.shape


def test_attention_with_data_is_torchs_own():
    q = torch.randn(1, 2, 8, 4)
    with attention_without_matrix():
        assert torch.equal(scaled_dot_product_attention(q, q, q), scaled_dot_product_attention(q, q, q))
        assert not torch.equal(scaled_dot_product_attention(q, q, q), torch.zeros_like(q))
