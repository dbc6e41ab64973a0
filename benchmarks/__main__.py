"""`python -m benchmarks [cost | reward | scoring | memory | report]`: measures parts; or writes the report."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from . import cost, demo_model, machine, memory, report, reward_over_time, scoring
from .results_file import ResultsFile

RESULTS = Path(__file__).resolve().parent / "results"


def main() -> None:
    options = parse()
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        run(options)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f"benchmarks: {error}")
    except KeyboardInterrupt:
        sys.exit("\nbenchmarks: stopped. Finished runs are kept: the same command goes on.")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition(": ")[2])
    parts = ("all", "cost", "reward", "scoring", "memory", "report")
    parser.add_argument("part", nargs="?", default="all", choices=parts)
    parser.add_argument("--repeats", type=positive, default=2, help="cost: sweeps of the window")
    parser.add_argument("--stride", type=positive, default=1, help="cost: steps between the window's places")
    parser.add_argument("--seconds", type=positive, default=90, help="reward: training seconds of a run")
    parser.add_argument("--seeds", type=positive, default=3, help="reward: runs of each algorithm")
    parser.add_argument("--evaluations", type=positive, default=6, help="reward: evaluations of a run after its start")
    parser.add_argument("--rounds", type=positive, default=15, help="scoring: times that each way is timed")
    parser.add_argument("--threads", type=positive, help="threads of a model call; torch's own choice by default")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of README.md and the pictures")
    parser.add_argument("--output", type=Path, help="the figures; bench.json in the results' folder by default")
    parser.add_argument("--fresh", action="store_true", help="start again instead of going on")
    return parser.parse_args()


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' isn't a whole number of at least 1")
    return int(text)


def run(options: argparse.Namespace) -> None:
    if options.part == "memory":
        print(f"benchmarks: the figures are in {memory.run(options.results)}")
        return
    results = ResultsFile(options.output or options.results / "bench.json")
    if options.part != "report":
        measure(options, results)
    if not results.sections:
        raise ValueError(f"There is nothing to report: {results.path} doesn't exist. Measure first.")
    written = report.write(results.sections, options.results)
    print(f"benchmarks: the figures are in {results.path}, the report is {written}")


def measure(options: argparse.Namespace, results: ResultsFile) -> None:
    demo = demo_model.load()
    shared = {"demo": demo.settings.as_dict()}
    cost_settings = {"repeats": options.repeats, "stride": options.stride, **shared}
    reward_settings = {"seconds": options.seconds, "evaluations": options.evaluations, **shared}
    wanted = [(variant.name, seed) for variant, seed in reward_over_time.wanted(options.seeds)]
    scoring_settings = {"rounds": options.rounds, "images": scoring.IMAGES, "pixels": scoring.PIXELS}
    this_machine = machine.describe()

    if options.part == "all" and (options.fresh or results.has_runs(wanted)):
        results.sections.clear()
    if options.part == "reward" and options.fresh:
        results.sections.pop("reward", None)
    if options.part == "cost" or options.part == "all" and not results.matches("cost", cost_settings, this_machine):
        measure_cost(demo, options, results, {"settings": cost_settings, "machine": this_machine})
    if options.part == "scoring" or (
        options.part == "all" and not results.matches("scoring", scoring_settings, this_machine)
    ):
        measure_scoring(options, results, {"settings": scoring_settings, "machine": this_machine})
    if options.part in ("all", "reward"):
        runs = results.runs_to_go_on_with(reward_settings, this_machine, wanted)
        measure_reward(demo, options, results, {"settings": reward_settings, "machine": this_machine}, runs)


def measure_cost(demo, options: argparse.Namespace, results: ResultsFile, section: dict) -> None:
    samples = cost.measure(demo, options.repeats, options.stride)
    results.save("cost", {**section, "summary": cost.summarise(samples), "samples": samples})


def measure_scoring(options: argparse.Namespace, results: ResultsFile, section: dict) -> None:
    samples = scoring.measure(demo_model.clip_tokenizer(), options.rounds)
    results.save("scoring", {**section, "summary": scoring.summarise(samples), "samples": samples})


def measure_reward(demo, options: argparse.Namespace, results: ResultsFile, section: dict, runs: list[dict]) -> None:
    runs = list(runs)

    def save(run: dict) -> None:
        runs.append(run)
        results.save("reward", {**section, "summary": reward_over_time.summarise(runs), "runs": runs})

    done = {(run["variant"], run["seed"]) for run in runs}
    reward_over_time.measure(demo, options.seconds, options.seeds, options.evaluations, done, save)


if __name__ == "__main__":
    main()
