"""What stays on the device of prompts' inputs: those asked for last, up to a number of bytes."""

from types import SimpleNamespace

import torch

SHAPE = (4, 8, 8)


def test_the_oldest_give_way_when_there_are_too_many_bytes(room):
    made = []

    def prepare(prompt, kind, shape):
        made.append((prompt, kind))
        return {"a": SimpleNamespace(cond=torch.zeros(10)), "b": SimpleNamespace(cond=[torch.zeros(15)])}  # 100 bytes

    cache = room("nodes.model.input_cache").InputCache(prepare, most=250)
    first = cache("x", "positive", SHAPE)
    assert cache("x", "positive", SHAPE) is first and cache("x", "negative", SHAPE) is not first
    cache("x", "positive", SHAPE)
    cache("y", "positive", SHAPE)  # one too many: x's negative was asked for longest ago
    assert cache("x", "positive", SHAPE) is first
    assert made == [("x", "positive"), ("x", "negative"), ("y", "positive")]
    cache("x", "negative", SHAPE)
    assert len(made) == 4
    assert cache("y", "positive", (4, 8, 16)) is not cache("y", "positive", SHAPE)


def test_one_that_is_larger_than_all_room_is_kept_while_it_is_used(room):
    cache = room("nodes.model.input_cache").InputCache(
        lambda prompt, kind, shape: {"a": SimpleNamespace(cond=torch.zeros(10))}, most=8
    )
    assert cache("x", "positive", SHAPE) is cache("x", "positive", SHAPE)
