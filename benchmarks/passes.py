"""`python -m benchmarks passes`: the demo with several passes over an iteration's images, as long in processor time."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from pathlib import Path

from mixgrpo_engine.config import TrainConfig
from mixgrpo_engine.records.files import write_json

from . import demo_model, machine
from .single_steps import SingleSteps
from .subject import Subject

FILE = "passes.json"
# Passes -> iterations: what takes as long as 60 iterations of one pass, by the figures of a trial.
ITERATIONS = {1: 60, 2: 44, 4: 29}
SURROGATES = ("clip", "kl_mask")
SWEEPS = 10  # window places in a run: the demo's five, twice


def run(folder: Path, seeds: int) -> Path:
    """Trains each way with each seed, and writes the figures into the folder."""
    demo = demo_model.load(own=True)
    rows = []
    for seed in range(seeds):
        for surrogate in SURROGATES:
            for passes, iterations in ITERATIONS.items():
                rows.append(train(demo, settings(demo.settings, surrogate, passes, iterations, seed)))
                print(rows[-1], flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / FILE, {"machine": machine.describe(), "runs": rows})
    return folder / FILE


def settings(demo: TrainConfig, surrogate: str, passes: int, iterations: int, seed: int) -> TrainConfig:
    return dataclasses.replace(
        demo,
        window=dataclasses.replace(demo.window, interval=max(1, round(iterations / SWEEPS))),
        loss=dataclasses.replace(demo.loss, surrogate=surrogate),
        optimizer=dataclasses.replace(demo.optimizer, epochs=passes),
        run=dataclasses.replace(demo.run, iterations=iterations, seed=seed),
    )


def train(demo: Subject, config: TrainConfig) -> dict:
    """One run: its held-out reward at the end, processor seconds without evaluations, mean |ratio - 1| by pass."""
    with tempfile.TemporaryDirectory(prefix="mixgrpo-benchmark-") as folder:
        trainer, deviations = SingleSteps(demo, config, Path(folder) / "run"), []
        started = time.process_time()
        for _ in range(config.run.iterations):
            event, _ = trainer.timed_step()
            deviations.append(event.deviations or {"1": event.ratio_deviation})
        seconds = time.process_time() - started
        return {
            "surrogate": config.loss.surrogate,
            "passes": config.optimizer.epochs,
            "seed": config.run.seed,
            "iterations": config.run.iterations,
            "processor_seconds": seconds,
            "reward": trainer.evaluate().reward["shapes"],
            "ratio_deviation": {name: _mean([each[name] for each in deviations]) for name in deviations[0]},
        }


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
