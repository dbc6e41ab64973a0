"""How much has been learned on held-out prompts: paired with the first evaluation, with an interval."""

import json

import pytest
import torch

from mixgrpo_engine.training.held_out_history import paired_change

T_3, T_1 = 3.182446, 12.706205  # 97.5% of Student's t with 3 degrees of freedom, and with 1


def test_paired_change_and_its_interval():
    """Differences 1, 2, 3, 6 of four prompts: mean 3, variance 14 / 3, standard error sqrt(14 / 12)."""
    change, error = paired_change([10.0, 20.0, 30.0, 40.0], [11.0, 22.0, 33.0, 46.0], each=1)
    assert change == 3.0 and error == pytest.approx(T_3 * (14 / 12) ** 0.5, rel=1e-6)


def test_more_images_of_the_same_prompts_say_nothing_of_other_prompts():
    """Two prompts, whose images change by 1 and by 3 alike: as sure as with one image each."""
    change, error = paired_change([0.0] * 8, [1.0] * 4 + [3.0] * 4, each=4)
    assert (change, error) == (2.0, pytest.approx(T_1 * 1.0, rel=1e-6))
    assert paired_change([0.0] * 4, [1.0, 2.0, 3.0, 4.0], each=4) == (2.5, None)


def test_only_pairs_with_both_scores_count():
    assert paired_change([1.0, None, 3.0], [2.0, 5.0, None], each=1) == (1.0, None)
    assert paired_change([None], [1.0], each=1) == (None, None)


class Known:
    """Scores of 8 held-out images, one list an evaluation."""

    name = "known"

    def __init__(self, *scores):
        self.scores = list(scores)

    def score(self, images, prompts):
        return torch.tensor(self.scores.pop(0))


FIRST = [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]
SECOND = [1.0, 1.0, 1.0, 2.0, 2.5, 2.5, 3.0, 3.0]  # the prompts' means change by 1.25 and by 1.75
ERROR = T_1 * 0.25


def trainer_of(toy, folder, *scores, images=4):
    settings = toy.config(run={"evaluate_images": images})
    return toy.make(folder, settings, watched={"known": Known(*scores)})


def test_an_evaluation_tells_its_images_scores_and_the_change_since_the_first(toy, tmp_path):
    trainer = trainer_of(toy, tmp_path / "run", FIRST, SECOND)
    trainer.held_out.evaluate(0)
    trainer.held_out.evaluate(4)
    first, second = toy.events(trainer, "evaluation")
    assert (first["score"], first["scores"], first["change"], first["change_error"]) == (0.5, FIRST, None, None)
    assert (second["score"], second["scores"], second["change"]) == (2.0, SECOND, 1.5)
    assert second["change_error"] == pytest.approx(ERROR)


def test_a_resumed_run_compares_with_the_first_evaluation_of_its_log(toy, tmp_path):
    trainer_of(toy, tmp_path / "run", FIRST).held_out.evaluate(0)
    trainer_of(toy, tmp_path / "run", [9.0] * 8).held_out.evaluate(4)
    trainer = trainer_of(toy, tmp_path / "run", SECOND)
    trainer.held_out.evaluate(8)
    last = toy.events(trainer, "evaluation")[-1]
    assert last["change"] == 1.5 and last["change_error"] == pytest.approx(ERROR)
    assert [event["iteration"] for event in toy.events(trainer, "best")] == [0, 4]


def test_without_pairs_the_means_are_compared_and_no_interval_is_told(toy, tmp_path):
    old = trainer_of(toy, tmp_path / "old", SECOND)
    line = {"type": "evaluation", "time": 1.0, "iteration": 0, "reward": {"toy": 3.0, "known": 0.5}, "strict": {}}
    old.folder.events.write_text(json.dumps(line) + "\n")
    old = trainer_of(toy, tmp_path / "old", SECOND)
    old.held_out.evaluate(4)
    fewer = trainer_of(toy, tmp_path / "fewer", FIRST)
    fewer.held_out.evaluate(0)
    fewer = trainer_of(toy, tmp_path / "fewer", [1.0, 3.0], images=1)
    fewer.held_out.evaluate(4)
    for trainer in (old, fewer):
        last = toy.events(trainer, "evaluation")[-1]
        assert (last["score"], last["change"], last["change_error"]) == (2.0, 1.5, None)


def test_images_without_a_score_are_none_and_left_out(toy, tmp_path):
    nan = float("nan")
    trainer = trainer_of(toy, tmp_path / "run", [nan, *FIRST[1:]], [*SECOND[:7], nan])
    trainer.held_out.evaluate(0)
    trainer.held_out.evaluate(4)
    first, second = toy.events(trainer, "evaluation")
    assert first["scores"][0] is None and second["scores"][7] is None
    assert second["change"] == pytest.approx((4 / 3 + (1.5 + 1.5 + 2.0) / 3) / 2)


def test_the_log_is_read_once(toy, tmp_path):
    trainer = trainer_of(toy, tmp_path / "run", FIRST, SECOND)
    trainer.held_out.evaluate(0)
    trainer.folder.events.unlink()
    trainer.held_out.evaluate(4)
    (event,) = toy.events(trainer, "evaluation")
    assert event["change"] == 1.5 and trainer.held_out.has_been_done(0)
