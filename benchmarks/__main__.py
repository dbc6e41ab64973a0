"""`python -m benchmarks [PART]`: measures all or a part, or writes the report."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from . import comfyui, cost, demo_model, machine, memory, middle_model, passes, report, reward_over_time, scoring, taste
from .results_file import ResultsFile

RESULTS = Path(__file__).resolve().parent / "results"
MODELS = {"tiny": demo_model, "middle": middle_model}
SWEEPS = {"tiny": (2, 1), "middle": (1, 2)}  # repeats and stride by default


def main() -> None:
    if sys.argv[1:2] == ["gpu"]:
        from .gpu import command

        sys.exit(command.main(sys.argv[2:]))
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
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures all or a part, or writes the report. `python -m benchmarks gpu --help`: on a GPU.",
    )
    parts = ("all", "cost", "reward", "scoring", "memory", "passes", "taste", "report")
    parser.add_argument("part", nargs="?", default="all", choices=parts)
    parser.add_argument("--model", choices=tuple(MODELS), help="cost: one model only, instead of all")
    parser.add_argument("--repeats", type=positive, help="cost: sweeps of the window; tiny 2, middle 1 by default")
    parser.add_argument("--stride", type=positive, help="cost: steps between its places; tiny 1, middle 2 by default")
    parser.add_argument("--seconds", type=positive, default=90, help="reward: processor seconds of a run's training")
    parser.add_argument("--seeds", type=positive, default=3, help="reward, passes, taste: runs of each kind")
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
    if options.part == "passes":
        print(f"benchmarks: the figures are in {passes.run(options.results, options.seeds)}")
        return
    if options.part == "taste":
        print(f"benchmarks: the report is {taste.run(options.results, options.seeds, options.fresh)}")
        return
    results = ResultsFile(options.output or options.results / "bench.json")
    if options.part != "report":
        measure(options, results)
    if not results.sections:
        raise ValueError(f"There is nothing to report: {results.path} doesn't exist. Measure first.")
    written = report.write(results.sections, options.results)
    print(f"benchmarks: the figures are in {results.path}, the report is {written}")


def measure(options: argparse.Namespace, results: ResultsFile) -> None:
    comfyui.import_comfyui()
    here, everything = machine.describe(), options.part == "all"
    wanted = [(variant.name, seed) for variant, seed in reward_over_time.wanted(options.seeds)]
    if everything and (options.fresh or results.has_runs(wanted)):
        results.sections.clear()
    if options.part == "reward" and options.fresh:
        results.sections.pop("reward", None)
    if everything or options.part == "cost":
        for model in (options.model,) if options.model else MODELS:
            measure_cost(model, options, results, here)
    if everything or options.part == "scoring":
        measure_scoring(options, results, here)
    if everything or options.part == "reward":
        measure_reward(options, results, here, wanted)


def measure_cost(model: str, options: argparse.Namespace, results: ResultsFile, here: dict) -> None:
    subject = MODELS[model].load()
    repeats, stride = SWEEPS[model]
    repeats, stride = options.repeats or repeats, options.stride or stride
    settings = {"repeats": repeats, "stride": stride, "run": subject.settings.as_dict()}
    if options.part == "all" and results.matches(report.COST[model], settings, here):
        return
    samples = cost.measure(subject, repeats, stride)
    section = {"settings": settings, "machine": here, "summary": cost.summarise(samples), "samples": samples}
    results.save(report.COST[model], section)


def measure_scoring(options: argparse.Namespace, results: ResultsFile, here: dict) -> None:
    settings = {"rounds": options.rounds, "images": scoring.IMAGES, "pixels": scoring.PIXELS}
    if options.part == "all" and results.matches("scoring", settings, here):
        return
    samples = scoring.measure(comfyui.clip_tokenizer(), options.rounds)
    section = {"settings": settings, "machine": here, "summary": scoring.summarise(samples), "samples": samples}
    results.save("scoring", section)


def measure_reward(
    options: argparse.Namespace, results: ResultsFile, here: dict, wanted: list[tuple[str, int]]
) -> None:
    demo = demo_model.load()
    settings = {"seconds": options.seconds, "evaluations": options.evaluations, "demo": demo.settings.as_dict()}
    runs = results.runs_to_go_on_with(settings, here, wanted)

    def save(run: dict) -> None:
        runs.append(run)
        section = {"settings": settings, "machine": here}
        results.save("reward", {**section, "summary": reward_over_time.summarise(runs), "runs": runs})

    done = {(run["variant"], run["seed"]) for run in runs}
    reward_over_time.measure(demo, options.seconds, options.seeds, options.evaluations, done, save)


if __name__ == "__main__":
    main()
