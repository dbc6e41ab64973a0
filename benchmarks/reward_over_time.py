"""Part B: the held-out reward that each algorithm reaches in the same processor seconds of training."""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from mixgrpo_engine.config import TrainConfig

from .single_steps import SingleSteps
from .subject import Subject
from .variants import REWARD, Variant

UNLIMITED = 10**6  # iterations: the seconds end a run


def measure(
    demo: Subject,
    seconds: float,
    seeds: int,
    evaluations: int,
    done: Collection[tuple[str, int]],
    save: Callable[[dict], None],
    variants: Sequence[Variant] = REWARD,
) -> None:
    """Trains each variant with each seed, all variants with one seed first; save(run) is called after each run.

    done: (variant's name, seed) of the runs that are there already.
    """
    missing = [(v, seed) for v, seed in wanted(seeds, variants) if (v.name, seed) not in done]
    for number, (variant, seed) in enumerate(missing, start=1):
        print(f"reward: run {number} of {len(missing)}: {variant.name}, seed {seed}, {seconds:g} s", flush=True)
        save(train(demo, variant, seed, seconds, evaluations))


def wanted(seeds: int, variants: Sequence[Variant] = REWARD) -> list[tuple[Variant, int]]:
    return [(variant, seed) for seed in range(seeds) for variant in variants]


def train(demo: Subject, variant: Variant, seed: int, seconds: float, evaluations: int) -> dict:
    """One run: its window's settings, iterations, seconds, image-forwards and evaluations ("points").

    Seconds are processor time, which other programs of the machine hardly change; evaluations take none. It ends with
    the iteration that ends nearest to the budget, so that long iterations are neither favoured nor cut short.
    """
    with tempfile.TemporaryDirectory(prefix="mixgrpo-benchmark-") as folder:
        trainer = SingleSteps(demo, settings(variant, demo.settings, seed), Path(folder) / "run")
        points = [_point(trainer, 0.0)]
        marks = _marks(seconds, evaluations)
        spent = last = 0.0
        mark = next(marks)
        while spent + last / 2 < seconds:
            started = time.process_time()
            trainer.step()
            last = time.process_time() - started
            spent += last
            if spent >= mark and spent + last / 2 < seconds:
                points.append(_point(trainer, spent))
                while spent >= mark:
                    mark = next(marks)
        points.append(_point(trainer, spent))
        return {
            "variant": variant.name,
            "seed": seed,
            "window": dataclasses.asdict(trainer.config.window),
            "iterations": trainer.iteration,
            "seconds": spent,
            "forwards": trainer.forwards,
            "points": points,
        }


def settings(variant: Variant, demo: TrainConfig, seed: int) -> TrainConfig:
    """The demo's settings, its window too (where the variant has one that moves)."""
    config = variant.settings(demo)
    return dataclasses.replace(config, run=dataclasses.replace(config.run, seed=seed, iterations=UNLIMITED))


def _marks(seconds: float, evaluations: int) -> Iterator[float]:
    """The times of the evaluations between the start and the end; after them infinity."""
    yield from (seconds * number / evaluations for number in range(1, evaluations))
    while True:
        yield float("inf")


def _point(trainer: SingleSteps, spent: float) -> dict:
    found = trainer.evaluate()
    reward, strict = found.reward["shapes"], found.strict["shapes"]
    print(f"  {spent:6.1f} s, iteration {trainer.iteration:4d}: held-out reward {reward:.4f}", flush=True)
    return {"seconds": spent, "iteration": trainer.iteration, "reward": reward, "strict": strict}


def summarise(runs: Sequence[dict]) -> list[dict]:
    """One row a variant: {"mean", "spread"} over the seeds; the spread is the standard deviation."""

    def over_seeds(values: list[float]) -> dict[str, float | None]:
        return {"mean": statistics.mean(values), "spread": statistics.stdev(values) if len(values) > 1 else None}

    rows = []
    for name in dict.fromkeys(run["variant"] for run in runs):
        mine = [run for run in runs if run["variant"] == name]
        first, last = [run["points"][0] for run in mine], [run["points"][-1] for run in mine]
        rows.append(
            {
                "variant": name,
                "window": mine[0]["window"],
                "seeds": len(mine),
                "iterations": over_seeds([run["iterations"] for run in mine]),
                "forwards": over_seeds([run["forwards"] for run in mine]),
                "seconds": over_seeds([run["seconds"] for run in mine]),
                "reward_before": over_seeds([point["reward"] for point in first]),
                "reward_after": over_seeds([point["reward"] for point in last]),
                "gain": over_seeds([b["reward"] - a["reward"] for a, b in zip(first, last, strict=True)]),
                "strict_before": over_seeds([point["strict"] for point in first]),
                "strict_after": over_seeds([point["strict"] for point in last]),
            }
        )
    return rows
