from random import Random

import pytest

from mixgrpo_engine import prompts as prompts_module
from mixgrpo_engine.prompts import PromptSet, split


def test_split_is_seeded_and_disjoint():
    lines = [f"prompt {i}" for i in range(20)]
    one, same, other = split(lines, 5, 1), split(lines, 5, 1), split(lines, 5, 2)
    assert one == same != other
    assert len(one.train) == 15 and len(one.held_out) == 5
    assert sorted(one.train + one.held_out) == sorted(lines)


def test_empty_and_repeated_lines_are_dropped():
    assert split(["a", "", " a ", "b"], 0).train == ("a", "b")


@pytest.mark.parametrize("lines,held_out", [([], 0), (["", "  "], 0), (["a", "b"], 2)])
def test_nothing_to_train_on(lines, held_out):
    with pytest.raises(ValueError):
        split(lines, held_out)


def test_overlap_is_named():
    with pytest.raises(ValueError, match="'b'"):
        PromptSet(("a", "b"), ("b",))


def test_every_epoch_shows_every_prompt_once():
    prompts = PromptSet(tuple("abcdefg"))
    shown = [p for i in range(14) for p in prompts.at(i, 2, seed=3)]
    for epoch in range(4):
        assert sorted(shown[epoch * 7 : epoch * 7 + 7]) == list("abcdefg")
    assert shown[:7] != shown[7:14]
    assert prompts.at(9, 2, seed=3) == shown[18:20]
    assert shown[:7] != [p for i in range(7) for p in prompts.at(i, 1, seed=4)]


def test_the_order_is_the_released_one():
    """A resumed run goes on with it: so it never changes."""
    prompts = PromptSet(tuple("abcdefg"))
    order = ["bcfag", "decgf", "abdec", "baged", "fdcea", "fbgcf"]
    assert ["".join(prompts.at(i, 5, seed=3)) for i in range(6)] == order
    assert "".join(prompts.at(1, 16, seed=0)) == "faecgecdgabfbfca"


@pytest.mark.parametrize("held_out", [(), ("h", "i")])
@pytest.mark.parametrize("iterations", [1, 2, 3, 4, 5])
def test_what_a_run_needs_is_what_it_measures_and_draws(held_out, iterations, monkeypatch):
    monkeypatch.setattr(prompts_module, "MEASURED", 2)
    prompts = PromptSet(tuple("abcdefg"), held_out)
    drawn = {p for i in range(iterations) for p in prompts.at(i, 2, seed=3)}
    needed = prompts.needed(iterations, 2, seed=3)
    assert set(needed) == {*drawn, *(held_out or "ab")} and len(needed) == len(set(needed))
    assert prompts.needed(iterations + 1, 2, seed=3)[: len(needed)] == needed


def test_an_epoch_is_shuffled_once(monkeypatch):
    """A million prompts take half a second to shuffle: not for every prompt."""
    shuffled = []

    class Counting(Random):
        def shuffle(self, order):
            shuffled.append(len(order))
            super().shuffle(order)

    monkeypatch.setattr(prompts_module, "Random", Counting)
    prompts_module._order.cache_clear()
    prompts = PromptSet(tuple(map(str, range(1000))))
    for iteration in range(50):  # 2000 prompts: two epochs
        prompts.at(iteration, 40, seed=12345)
    assert shuffled == [1000, 1000]


@pytest.mark.parametrize(
    "prompts, held_out", [(1, 0), (3, 0), (4, 1), (7, 1), (8, 2), (10, 2), (100, 20), (160, 32), (5000, 32)]
)
def test_about_a_fifth_is_held_out_by_itself(prompts, held_out):
    found = split([f"prompt {i}" for i in range(prompts)], prompts_module.AUTOMATIC)
    assert (len(found.train), len(found.held_out)) == (prompts - held_out, held_out)
    assert found == split([f"prompt {i}" for i in range(prompts)], held_out)
