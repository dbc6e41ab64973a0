"""A list into Train is a sweep: which runs it is, what ties them, and that it changes nothing of what is trained."""

import json

import pytest


def test_lists_are_paired_as_comfyui_does(runs):
    inputs = {"seed": [1, 2, 3], "run_name": ["a", "b"], "width": [64]}
    assert runs.sweep.members("Train", inputs) == [
        {"seed": 1, "run_name": "a", "width": 64},
        {"seed": 2, "run_name": "b", "width": 64},
        {"seed": 3, "run_name": "b", "width": 64},
    ]


def test_a_list_that_is_none_is_named(runs):
    with pytest.raises(ValueError, match="seed of MixGRPO Train is an empty list: connect"):
        runs.sweep.members("MixGRPO Train", {"seed": [], "width": [64]})
    with pytest.raises(ValueError, match="seed of MixGRPO Train is a list of 1001 values: 1000 runs are the most"):
        runs.sweep.members("MixGRPO Train", {"seed": list(range(1001)), "width": [64]})


def test_what_differs_is_told(runs):
    def job(**changes):
        config = {"run": {"seed": 0, "iterations": 3}, "optimizer": {"learning_rate": 1e-4}}
        for group in config.values():
            group |= {name: value for name, value in changes.items() if name in group}
        return {"name": changes.get("name", "n"), "config": config}

    assert runs.sweep.of_jobs([job()]) == [None]
    one, other = runs.sweep.of_jobs([job(seed=1, learning_rate=1e-3), job(seed=2)])
    assert one["id"] == other["id"] and (one["position"], other["position"], one["of"]) == (1, 2, 2)
    assert one["values"] == {"seed": 1, "learning_rate": 1e-3} and other["values"] == {"seed": 2, "learning_rate": 1e-4}
    assert runs.sweep.of_jobs([job(name="a"), job(name="b")])[1]["values"] == {"name": "b"}
    assert runs.sweep.checked(json.loads(json.dumps(one))) == one


@pytest.mark.parametrize(
    "told",
    [
        None, [], 5, {}, {"id": 5, "position": 1, "of": 2}, {"id": "", "position": 1, "of": 2},
        {"id": "a" * 33, "position": 1, "of": 2}, {"id": "a", "position": 3, "of": 2},
        {"id": "a", "position": True, "of": 2}, {"id": "a", "position": 0, "of": 2},
        {"id": "a", "position": 1, "of": 1e9},
    ],
)  # fmt: skip
def test_what_is_no_sweep_is_none(runs, told):
    assert runs.sweep.checked(told) is None


def test_values_that_are_none_are_left_out(runs):
    told = {"id": "a", "position": 1, "of": 2, "values": {"seed": 1, "x": [], "y": None, "z": {"a": 1}, "w": "v"}}
    assert runs.sweep.checked(told)["values"] == {"seed": 1, "w": "v"}
    assert runs.sweep.checked({**told, "values": [1]})["values"] == {}


def test_the_list_knows_the_runs_of_a_sweep(runs):
    folders = [runs.paths.folder_of(f"run-{number}") for number in range(4)]
    told = [{"id": "one", "position": 2, "of": 2}, {"id": "one", "position": 1, "of": 2}, {"id": "other"}, None]
    for folder, sweep in zip(folders, told, strict=True):
        folder.create()
        folder.job.write_text("{}")
        runs.workflow.keep(folder, None, {}, "7", True, sweep)
    assert [folder.name for folder in runs.overview.sweep_of(folders[0])] == ["run-1", "run-0"]
    assert [folder.name for folder in runs.overview.sweep_of(folders[3])] == ["run-3"]
    page = runs.overview.page(None, 0, "", set(), sweep_id="one")
    assert page["total"] == 2 and {each["sweep"]["position"] for each in page["runs"]} == {1, 2}
    assert runs.overview.summary(folders[2])["sweep"] is None
