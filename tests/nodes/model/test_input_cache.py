"""What stays on the device of prompts' inputs: those asked for last, up to a number of bytes."""

from types import SimpleNamespace

import torch


def test_the_oldest_give_way_when_there_are_too_many_bytes(room):
    made = []

    def prepare(prompt, kind):
        made.append((prompt, kind))
        return {"a": SimpleNamespace(cond=torch.zeros(10)), "b": SimpleNamespace(cond=[torch.zeros(15)])}  # 100 bytes

    cache = room("nodes.model.input_cache").InputCache(prepare, most=250)
    first = cache("x", "positive")
    assert cache("x", "positive") is first and cache("x", "negative") is not first
    cache("x", "positive")
    cache("y", "positive")  # one too many: x's negative was asked for longest ago
    assert cache("x", "positive") is first
    assert made == [("x", "positive"), ("x", "negative"), ("y", "positive")]
    cache("x", "negative")
    assert len(made) == 4


def test_one_that_is_larger_than_all_room_is_kept_while_it_is_used(room):
    cache = room("nodes.model.input_cache").InputCache(
        lambda prompt, kind: {"a": SimpleNamespace(cond=torch.zeros(10))}, most=8
    )
    assert cache("x", "positive") is cache("x", "positive")
