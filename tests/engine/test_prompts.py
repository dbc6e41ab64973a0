import pytest

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
