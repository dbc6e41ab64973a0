"""Votes on disk: what was shown, what was chosen, taken back; other processes, damage, kills in mid-line."""

import json
import math

import pytest
import torch

from mixgrpo_engine.taste.votes import VoteSet, checked_order, pairs, scores_of


def pictures(seed, count=4):
    return torch.rand(count, 8, 8, 3, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def votes(tmp_path):
    return VoteSet(tmp_path / "mine")


def test_a_sheet_is_asked_until_it_is_answered(votes):
    first, second = (votes.add(pictures(seed), f"prompt {seed}", "run-1") for seed in (0, 1))
    assert [sheet.prompt for sheet in votes.read().pending] == ["prompt 0", "prompt 1"] and first.source == "run-1"
    votes.vote(first.id, [[2], [0, 3], [1]])
    votes.skip(second.id)
    state = votes.read()
    assert not state.pending and state.answers == {first.id: ((2,), (0, 3), (1,))} and state.skipped == {second.id}
    assert votes.undo() == second.id and [sheet.id for sheet in votes.read().pending] == [second.id]
    assert votes.undo() == first.id and len(votes.read().pending) == 2
    with pytest.raises(ValueError, match="no vote to take back"):
        votes.undo()


def test_the_same_images_are_the_same_sheet_and_another_prompt_is_another(votes):
    first = votes.add(pictures(0), "red")
    votes.vote(first.id, [[0], [1, 2, 3]])
    assert votes.add(pictures(0), "red") == first and not votes.read().pending, "a resumed training isn't asked again"
    assert votes.add(pictures(0), "blue").id != first.id and len(list(votes.images.iterdir())) == 4


def test_images_come_back_as_they_were_but_for_webp(votes):
    smooth = torch.linspace(0, 1, 64).view(1, 64, 1, 1).expand(2, 64, 64, 3).clone()
    smooth[1] = 0.25
    sheet = votes.add(smooth, "grey")
    for file, image in zip(sheet.images, smooth, strict=True):
        assert (votes.picture(file) - image).abs().max() < 0.02
    for name in ("../votes.jsonl", "no.webp", "votes.jsonl"):
        with pytest.raises(ValueError, match="There is no image"):
            votes.picture(name)


def test_another_process_sees_what_was_added(votes):
    other = VoteSet(votes.folder)
    sheet = votes.add(pictures(0), "a")
    other.vote(sheet.id, [[1], [0]])
    other.vote(sheet.id, [[3], [0]])
    assert votes.read().answers == {sheet.id: ((3,), (0,))}, "the later answer counts"
    assert votes.read().last == [sheet.id]


def test_damaged_lines_are_counted_and_half_a_line_hurts_nothing(votes):
    sheet = votes.add(pictures(0), "a")
    with open(votes.log, "ab") as file:
        for line in ("{", "[]", '{"type": "vote"}', '{"type": "vote", "sheet": "x", "order": [[0]]}', "1" * 5000):
            file.write(line.encode() + b"\n")
        file.write(json.dumps({"type": "vote", "sheet": sheet.id, "order": [[9], [0]]}).encode() + b"\n")
        file.write(b'{"type": "vote", "she')  # killed in the middle
    votes.vote(sheet.id, [[0], [1]])
    for reader in (votes, VoteSet(votes.folder)):
        state = reader.read()
        assert state.answers == {sheet.id: ((0,), (1,))} and state.damaged == 7


@pytest.mark.parametrize(
    "order", [[], [[]], [[0], []], [[0], [0]], [[4]], [[-1]], [["0"]], [[True]], "01", None, [0, 1]]
)
def test_an_order_that_does_not_fit_is_refused(votes, order):
    sheet = votes.add(pictures(0), "a")
    with pytest.raises(ValueError, match="best first, each place 0 to 3 once"):
        votes.vote(sheet.id, order)
    assert not votes.read().answers


def test_the_number_of_images_is_bounded(votes):
    for count in (1, 17):
        with pytest.raises(ValueError, match="must be 2 to 16"):
            votes.add(pictures(0, count), "a")
    with pytest.raises(ValueError, match="have no sheet 'x'"):
        votes.vote("x", [[0]])


def test_best_and_worst_of_four_are_five_pairs():
    order = checked_order([[2], [0, 3], [1]], 4)
    assert sorted(pairs(order)) == [(0, 1), (2, 0), (2, 1), (2, 3), (3, 1)]
    assert pairs(((0, 1),)) == []


def test_an_order_as_scores():
    """Evenly spaced places, ties share theirs; who wasn't judged has none."""
    best_and_worst = scores_of(((2,), (0, 3), (1,)), 5).tolist()
    assert best_and_worst[:4] == pytest.approx([0.5, 0, 1, 0.5]) and math.isnan(best_and_worst[4])
    assert scores_of(((1,), (0,)), 2).tolist() == [0, 1]
    assert scores_of(((0, 1),), 2).tolist() == [0.5, 0.5]
