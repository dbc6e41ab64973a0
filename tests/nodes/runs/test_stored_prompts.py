"""A run's prompts stand beside its job: any number of them, and those of the job or none."""

import json

import pytest

PROMPTS = {"train": ["a", 'with "quotes",', "two\nlines", "\u732b \u2028", "]"], "held_out": ["[", "z"]}


@pytest.fixture
def job(runs, folder):
    return {"prompts": runs.stored_prompts.write(folder, PROMPTS)}


def test_they_come_back_as_they_were(runs, folder, job):
    assert job["prompts"].keys() == {"train", "held_out", "sha256"}
    assert runs.stored_prompts.read(folder, job) == PROMPTS
    assert runs.stored_prompts.counts(job) == {"train": 5, "held_out": 2}
    assert len(json.loads((folder.path / "prompts.json").read_text())) == 7


@pytest.mark.parametrize("most", [0, 1, 4, 1000])
def test_the_first_ones_are_told_without_the_others(runs, folder, job, most):
    told = runs.stored_prompts.first(folder, job, most)
    assert told == {**{kind: each[:most] for kind, each in PROMPTS.items()}, "total": {"train": 5, "held_out": 2}}


def test_others_are_not_trained_on(runs, folder, job):
    file = folder.path / "prompts.json"
    file.write_text(file.read_text().replace("two", "2"))
    with pytest.raises(ValueError, match=r"prompts\.json isn't the one that the run began with: queue"):
        runs.stored_prompts.read(folder, job)
    file.unlink()
    with pytest.raises(ValueError, match=r"prompts\.json isn't the one"):
        runs.stored_prompts.read(folder, job)
    assert runs.stored_prompts.first(folder, job, 9) == {
        "train": [],
        "held_out": [],
        "total": {"train": 5, "held_out": 2},
    }


def test_a_job_of_an_older_version_holds_its_own(runs, folder):
    job = {"prompts": PROMPTS}
    assert runs.stored_prompts.read(folder, job) == PROMPTS
    assert runs.stored_prompts.counts(job) == {"train": 5, "held_out": 2}
    assert runs.stored_prompts.first(folder, job, 1)["train"] == ["a"]


@pytest.mark.parametrize("told", [None, [], {}, {"train": None, "held_out": "x"}, {"train": -5, "held_out": 1.5}])
def test_what_a_strangers_job_says_harms_nothing(runs, folder, told):
    job = {"prompts": told}
    assert runs.stored_prompts.counts(job) == {"train": 0, "held_out": 0}
    assert runs.stored_prompts.first(folder, job, 5)["train"] == []
