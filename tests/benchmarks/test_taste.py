"""What a learned taste is worth: scripted voters, and what is reported of them."""

import dataclasses

import pytest
import torch

from benchmarks import taste, taste_groups, taste_head, taste_report, taste_training, taste_voter
from benchmarks.results_file import ResultsFile
from benchmarks.taste_groups import Group
from benchmarks.taste_training import LEARNED, LIVE, Kind
from benchmarks.taste_voter import TASTES, AnsweredVotes, LargeBlueLeft, Voter
from mixgrpo_engine.shapes import Object, Scene, draw


def scene(color, x, size):
    return (
        torch.frombuffer(
            bytearray(draw(Scene((Object(color, "square", x, 0.5, size),), "white"), 64).tobytes()), dtype=torch.uint8
        ).view(64, 64, 3)
        / 255
    )


PICTURES = torch.stack(
    [scene("blue", 0.25, 0.5), scene("red", 0.75, 0.2), scene("blue", 0.75, 0.5), scene("red", 0.25, 0.2)]
)


def test_large_blue_left_is_what_it_says():
    """A third each: the area (of 0.3), blue, and how far left the middle is."""
    scores = LargeBlueLeft().score(PICTURES, [""] * 4)
    expected = [(0.25 / 0.3 + 1 + 0.75) / 3, (0.04 / 0.3 + 0 + 0.25) / 3]
    assert scores[:2].tolist() == pytest.approx(expected, abs=0.03)


def test_a_voter_picks_best_and_worst_and_errs_now_and_then():
    voter = Voter(LargeBlueLeft(), seed=0)
    orders = [voter.order(PICTURES, "a blue square", str(number)) for number in range(200)]
    assert orders == [voter.order(PICTURES, "a blue square", str(number)) for number in range(200)]
    right = sum(order == ((0,), (2, 3), (1,)) for order in orders) / 200
    # One in twelve blind votes is right, too.
    assert right == pytest.approx(1 - taste_voter.WRONG * 11 / 12, abs=0.06)
    assert voter.order(PICTURES[:1].repeat(4, 1, 1, 1), "", "alike") is None


def test_a_sheet_is_answered_once_when_it_is_shown(tmp_path):
    votes = AnsweredVotes(tmp_path, Voter(LargeBlueLeft(), seed=0))
    sheet = votes.add(PICTURES, "a blue square")
    assert votes.add(PICTURES, "a blue square") == sheet and votes.read().last == [sheet.id]
    alike = votes.add(PICTURES[:1].repeat(2, 1, 1, 1), "a blue square")
    assert votes.read().skipped == {alike.id} and not votes.read().pending


def test_a_head_is_measured_on_what_it_has_not_seen(monkeypatch):
    """A voter who likes bright images, and a feature that says how bright they are."""

    class Bright:
        name = "bright"

        def score(self, images, prompts):
            return images.mean((1, 2, 3))

    def groups(seed, count):
        generator = torch.Generator().manual_seed(seed)
        made = []
        for number in range(count):
            levels, others = torch.rand(12, 1, generator=generator), torch.randn(12, 34, generator=generator)
            images = levels.view(-1, 1, 1, 1).expand(-1, 2, 2, 3)
            made.append(Group(f"prompt {number}", images, torch.cat([levels, others], 1)))
        return made

    monkeypatch.setitem(TASTES, "bright", Bright())
    for active in (False, True):
        rows = taste_head.measure("bright", 0, groups(0, 60), groups(5, 20), active)
        assert [row["votes"] for row in rows] == [10, 20, 40]
        assert rows[-1]["right"] > 0.85 and 0.7 < rows[-1]["agrees"] < 0.95 and rows[-1]["told"]["low"] > 0.5


@pytest.mark.parametrize("way", [LEARNED, LIVE])
def test_a_run_is_judged_by_the_truth(small, way, tmp_path):
    generator = torch.Generator().manual_seed(0)
    subject = dataclasses.replace(small, encoded=taste_groups.demo().encoded)
    groups = [
        Group(prompt, torch.rand(4, 64, 64, 3, generator=generator) * PICTURES, torch.zeros(4, 0))
        for prompt in small.prompts.train[:4]
    ]
    found = taste_training.train(subject, "large, blue, left", Kind(way, 2, 1), 0, groups, tmp_path)
    assert found["answers"] <= 2 and [point["iteration"] for point in found["points"]][0] == 0
    assert all(0 <= point[name] <= 1 for point in found["points"] for name in TASTES)
    assert len(list(tmp_path.glob("features-*"))) == 2 * (way == LEARNED), "features are kept for the next run"
    with pytest.raises(ValueError, match="4 groups are too few for 9 votes"):
        taste_training.train(subject, "large, blue, left", Kind(LEARNED, 9, 1), 0, groups, tmp_path)


def test_a_run_that_was_made_is_not_made_again(monkeypatch, tmp_path):
    made = []

    def train(subject, name, kind, seed, groups, folder):
        made.append((name, kind, seed))
        return {"points": [{"iteration": 0}], "answers": 0, "seconds": 1.0}

    monkeypatch.setattr(taste, "train", train)
    runs = taste.wanted(2)[:8]
    for _ in range(2):
        results = ResultsFile(tmp_path / "taste.json")  # as another process finds it
        for run in runs:
            taste.measure_training(None, *run, lambda seed, count: [], results, {"machine": {}}, tmp_path)
    assert made == runs and len(results.sections["training"]["rows"]) == 8


def test_what_matters_most_is_measured_first_and_the_report_needs_no_more():
    runs = taste.wanted(2)
    assert len(runs) == len(set(runs)) and {seed for _, _, seed in runs[:6]} == {0}
    head = [
        {"taste": name, "seed": 0, "votes": 40, "active": active, "right": 0.9, "agrees": 0.8, "seconds": 0.5,
         "told": {"mean": 0.7, "low": 0.6, "high": 0.85}}
        for name in TASTES for active in (False, True)
    ]  # fmt: skip
    training = []
    for name, kind, seed in runs:
        ends = [{"iteration": at, **dict.fromkeys(TASTES, 0.5 + at / 1000)} for at in (0, kind.iterations)]
        figures = {"answers": 40, "seconds": 9.0, "points": ends, "notices": [[3, "Look."]]}
        training.append({"taste": name, **dataclasses.asdict(kind), "seed": seed, **figures})
    machine = {"processor": "p", "cores": 2, "threads": 1, "system": "s", "torch": "t", "comfyui": "c", "python": "y"}
    page = taste_report.of({"head": {"machine": machine, "rows": head}, "training": {"rows": training}})
    assert "| shapes | learned | 40 | 40 | 2 | 0.500 | 0.540 | +0.040 +- 0.000 |" in page
    assert 'at iteration 3: "Look."' in page and "| shapes | 40 | 1 | 0.900 | 0.900 | 0.800 | 0.700 | 1 | 0.5 |" in page
