"""`python -m benchmarks`: going on after an interruption, and the report. What is measured is made up."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from benchmarks import __main__ as command
from benchmarks import cost, demo_model, plots, reward_over_time, scoring, variants

COST = ["cost", "cost of the middle model"]


@pytest.fixture
def run(monkeypatch, demo, sample, made_up_run, tmp_path):
    """`run(*arguments)` measures with made-up figures; its log tells what it measured. `run.stop_after` interrupts."""

    class Run:
        stop_after = None

        def __call__(self, *arguments):
            self.log = []
            monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments, "--results", str(tmp_path)])
            command.main()
            return json.loads((tmp_path / "bench.json").read_text())

        def measure(self, subject, repeats, stride):
            self.log.append("cost" if subject is demo else "cost of the middle model")
            return [sample(variant.name, repeat, 4.0) for repeat in range(repeats) for variant in variants.COST]

        def score(self, tokenizer, rounds):
            assert (tokenizer / "merges.txt").exists()
            self.log.append("scoring")
            seconds = {scoring.BATCHED: 0.5, scoring.SINGLE: 1.0, scoring.PUBLISHED: 2.0}
            return [{"round": number, "seconds": seconds} for number in range(rounds)]

        def train(self, _demo, variant, seed, seconds, evaluations):
            if self.stop_after is not None and len(self.log) >= self.stop_after:
                raise KeyboardInterrupt
            self.log.append((variant.name, seed))
            return made_up_run(variant, seed)

    run = Run()
    monkeypatch.setattr(demo_model, "load", lambda: demo)
    monkeypatch.setattr(cost, "measure", run.measure)
    monkeypatch.setattr(reward_over_time, "train", run.train)
    monkeypatch.setattr(scoring, "measure", run.score)
    return run


def interrupted(run, after, *arguments):
    run.stop_after = after
    with pytest.raises(SystemExit, match="goes on"):
        run(*arguments)
    run.stop_after = None


def test_an_interrupted_bench_goes_on(run):
    interrupted(run, 6, "--seeds", "2")
    assert run.log == [*COST, "scoring", ("DanceGRPO", 0), ("Flow-GRPO", 0), ("DiffusionNFT", 0)]
    found = run("--seeds", "2")
    assert run.log[:2] == [("MixGRPO", 0), ("MixGRPO-Flash", 0)] and len(run.log) == 9
    assert len(found["reward"]["runs"]) == 12 and {row["seeds"] for row in found["reward"]["summary"]} == {2}


def test_a_finished_bench_starts_again_and_more_seeds_go_on(run):
    run("--seeds", "1")
    run("--seeds", "1")
    assert len(run.log) == 9
    run("reward", "--seeds", "2")
    assert [seed for _, seed in run.log] == [1] * 6


def test_scoring_alone(run):
    assert run("scoring", "--rounds", "2").keys() == {"scoring"} and run.log == ["scoring"]
    assert len(run("scoring", "--rounds", "4")["scoring"]["samples"]) == 4


def test_fresh_starts_again(run):
    interrupted(run, 2, "reward", "--seeds", "1")
    run("reward", "--seeds", "1", "--fresh")
    assert len(run.log) == 6


def test_other_settings_are_never_mixed(run):
    interrupted(run, 2, "reward", "--seconds", "10")
    with pytest.raises(SystemExit, match="--fresh to start again"):
        run("reward", "--seconds", "20")


def test_another_machine_is_never_mixed(run, monkeypatch):
    interrupted(run, 2, "reward")
    monkeypatch.setattr(command.machine, "describe", lambda: {"processor": "another"})
    with pytest.raises(SystemExit, match="another machine"):
        run("reward")


def test_the_report(run, tmp_path, monkeypatch):
    here = command.machine.describe()
    # The commands name the threads only where torch had fewer than it would take by itself.
    monkeypatch.setattr(command.machine, "describe", lambda: {**here, "threads": here["cores"]})
    run("--seeds", "2", "--repeats", "3", "--seconds", "40", "--rounds", "7")
    text = (tmp_path / "README.md").read_text()
    lines = text.splitlines()
    mix, middle = [line for line in lines if line.startswith("| MixGRPO | 10.00 |")]
    # Of iterations, seconds and bare work that are all made up alike.
    cells = ["4.00", "4.00 (4.00 to 4.00)", "2.000", "0.500", "1.000", "0.500", "4.00"]
    cells += ["100% (100% to 100%)", "100%", "100%"]
    assert mix == f"| MixGRPO | 10.00 | {' | '.join([*cells, '4.00 (4.00 to 4.00)', '2.00 (2.00 to 2.00)'])} |"
    assert middle == mix
    (star,) = [line for line in lines if line.startswith("| MixGRPO-Flash* | 2 |")]
    assert "| 4 steps, frozen at the first |" in star
    assert "| 0.500 +- 0.000 | 0.750 +- 0.071 | 0.250 +- 0.071 |" in star
    assert ".venv/bin/python -m benchmarks cost --model tiny --repeats 3 --stride 1" in lines
    assert ".venv/bin/python -m benchmarks cost --model middle --repeats 3 --stride 2" in lines
    assert ".venv/bin/python -m benchmarks reward --seconds 40 --seeds 2 --evaluations 6" in lines
    assert "| published way, image by image | 2.00 (2.00 to 2.00) | 4.00 (4.00 to 4.00) |" in lines
    assert ".venv/bin/python -m benchmarks scoring --rounds 7" in lines
    for name in ("cost.png", "cost_middle.png", "reward.png"):
        assert f"]({name})" in text
        with Image.open(tmp_path / name) as picture:
            assert picture.width > 600


def test_the_report_alone_measures_nothing(run, tmp_path):
    with pytest.raises(SystemExit, match="Measure first"):
        run("report")
    run("cost", "--model", "middle")
    assert run.log == COST[1:]
    (tmp_path / "README.md").unlink()
    run("report")
    assert run.log == [] and "Cost of an iteration" in (tmp_path / "README.md").read_text()
    assert not (tmp_path / "reward.png").exists()


def test_figures_of_an_older_version_are_no_report(run, tmp_path):
    run("cost", "--model", "middle")
    figures = json.loads((tmp_path / "bench.json").read_text())
    del figures["cost_middle"]["settings"]["run"]
    (tmp_path / "bench.json").write_text(json.dumps(figures))
    with pytest.raises(SystemExit, match="older version's: run `python -m benchmarks cost --model middle`"):
        run("report")


def test_a_number_below_1_is_refused(run, capsys):
    with pytest.raises(SystemExit):
        run("--seeds", "0")
    assert "'0' isn't a whole number of at least 1" in capsys.readouterr().err


def test_curves_end_where_the_shortest_run_ends(made_up_run):
    seconds, curves = plots.curves_of([made_up_run(variants.FLASH, 0), made_up_run(variants.FLASH, 1)])
    assert seconds[-1] == 9.5 and curves.shape == (2, len(seconds))
    np.testing.assert_allclose(curves[:, -1], [0.7, 0.5 + 0.3 * 9.5 / 10.5])
