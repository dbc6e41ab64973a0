"""The most that is alive at once, with known answers, on the CPU and without data."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from mixgrpo_engine.memory.live_bytes import LiveBytes, attention_without_matrix, peak_bytes

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


def layouts(values):
    values = values if isinstance(values, (tuple, list)) else [values]
    return [(value.shape, value.stride(), value.dtype) for value in values if isinstance(value, torch.Tensor)]


def operations(device):
    """Results of operators whose layouts depend on shapes, strides, dtypes, and the kind of a number."""
    wide, tall = torch.ones(3, 8, device=device), torch.ones(8, 3, device=device)
    half, whole = wide.half(), torch.ones(3, 8, dtype=torch.int64, device=device)
    weight = torch.ones(8, device=device)
    yield from (wide + wide, wide + tall.t(), tall.t() + tall.t(), wide[:, :1] + weight, half + wide, half + 1)
    yield from (whole * 2, whole * 2.0, whole * True, whole > 1, wide @ tall, half @ tall.half(), wide.sum(0))
    yield from (torch.cat([wide, wide], 1), torch.cat([wide, wide], 0), wide.to(torch.float64), wide.mean(-1, True))
    yield from (torch.nn.functional.layer_norm(wide, (8,), weight), torch.nn.functional.rms_norm(wide, (8,), weight))
    yield from (wide.chunk(2), wide.split([3, 5], 1), torch.std_mean(wide, 1), wide.max(1), torch.zeros_like(tall))
    yield from (wide.clone().t_(), wide.clone().unsqueeze_(0), wide.clone().resize_(2, 2), wide.clone().add_(1))
    yield from (torch.empty(3, 8, device=device).normal_(), torch.arange(4, device=device), wide.reshape(-1, 2))


def test_what_is_known_of_an_operator_is_what_it_makes():
    expected, known = [layouts(result) for result in operations("cpu")], {}
    with LiveBytes(known):
        first = [layouts(result) for result in operations("meta")]
    learned = len(known)
    with LiveBytes(known) as counter:
        again = [layouts(result) for result in operations("meta")]
        assert counter.now == 0 and counter.peak > 0
    assert first == again == expected
    assert len(known) == learned > 15


def test_a_result_that_shares_memory_is_never_made_anew():
    before, known = torch.ones(4, 4, device="meta"), {}
    for _ in range(2):
        with LiveBytes(known) as counter:
            flat = torch.ops.aten._unsafe_view(before, [16])  # a view that doesn't say so
        assert flat.untyped_storage()._cdata == before.untyped_storage()._cdata and counter.peak == 0


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
