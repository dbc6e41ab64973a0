"""Part A: what an iteration costs, in image-forwards and in seconds, and how much of it is the model's own work."""

from __future__ import annotations

import dataclasses
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mixgrpo_engine import seeds
from mixgrpo_engine.config import TrainConfig
from mixgrpo_engine.rewards.shapes import ShapesReward

from .bare_model import BareCalls
from .single_steps import SingleSteps
from .subject import Subject
from .variants import COST, DANCE_GRPO, MIX_GRPO, Variant

# So low that the model stays what it is. Not lower: AdamW is slow on gradients so small that their squares have no
# full precision any more.
LEARNING_RATE = 1e-7
PAPER_PLACES = 12  # that its window visits: 25 iterations each of 300
PHASES = ("rollout", "score", "update", "rest")


def measure(subject: Subject, repeats: int, stride: int, variants: Sequence[Variant] = COST) -> list[dict]:
    """One sample an iteration: `repeats` sweeps of the window over all its places, `stride` steps apart.

    The variants take turns, one iteration each, in an order that rotates: a machine that is slow for a while is slow
    for all of them.
    """
    sweep = sweep_length(settings(MIX_GRPO, subject.settings, stride))
    samples = []
    with tempfile.TemporaryDirectory(prefix="mixgrpo-benchmark-") as folder:
        measured = [
            Measured(subject, variant, settings(variant, subject.settings, stride), Path(folder) / str(number))
            for number, variant in enumerate(variants)
        ]
        for one in measured:
            one.warm_up()
        for place in range(repeats * sweep):
            for one in _rotated(measured, place):
                samples.append({"repeat": place // sweep, **one.sample()})
            _show(place + 1, repeats * sweep, samples[-len(measured) :])
    return samples


def _show(done: int, total: int, turn: Sequence[dict]) -> None:
    seconds = {sample["variant"]: sample["seconds"]["iteration"] for sample in turn}
    times = ", ".join(f"{name} {seconds[name]:.2f} s" for name in sorted(seconds))
    print(f"cost: {done} of {total} iterations each: {times}", flush=True)


def settings(variant: Variant, demo: TrainConfig, stride: int) -> TrainConfig:
    """A window that moves every iteration over all places; nothing is learned, saved or evaluated."""
    config = variant.settings(demo)
    return dataclasses.replace(
        config,
        window=dataclasses.replace(config.window, interval=1, stride=stride, max_start=-1, wrap=True),
        optimizer=dataclasses.replace(config.optimizer, learning_rate=LEARNING_RATE),
        run=dataclasses.replace(config.run, evaluate_every=0),
    )


def sweep_length(config: TrainConfig) -> int:
    """Iterations until the window is at its first place again."""
    window = config.sliding_window()
    return next(iteration for iteration in itertools.count(1) if window.at(iteration).start == 0)


class AlwaysDifferent(ShapesReward):
    """The demo's reward and a little chance, so that no two images of a group get the same.

    The update leaves out groups whose images all score alike. How many those are depends on the model and its luck,
    not on the algorithm: every image shall cost what it costs when it is learned from.
    """

    def score(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        return super().score(images, prompts) + 0.01 * torch.rand(len(images), generator=seeds.generator(0, "chance"))


class Brightness:
    """Brightness and a little chance: as AlwaysDifferent for images of any kind, and cheap."""

    name = "brightness"

    def score(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        chance = torch.rand(len(images), generator=seeds.generator(0, "chance"))
        return images.flatten(1).mean(1) + 0.01 * chance


class Measured:
    """A variant's trainer, with the bare work of its iterations timed beside them."""

    def __init__(self, subject: Subject, variant: Variant, config: TrainConfig, folder: Path):
        self.variant = variant
        config = subject.planned(config)
        self.trainer = SingleSteps(subject, config, folder, subject.reward or AlwaysDifferent(), variant.own_copies)
        self.images = config.rollout.group_size * config.rollout.prompts_per_iteration
        self.denoiser = BareCalls(self.trainer.policy.module.model.diffusion_model)
        # The models' VAEs are TAESDs: all that decoding costs is in this part of them.
        self.vae = BareCalls(subject.vae.first_stage_model.taesd_decoder)

    def warm_up(self) -> None:
        """The first calls in a process are slow."""
        self.sample()
        self.trainer.iteration = 0

    def sample(self) -> dict:
        """The next iteration's figures; image-forwards are per image of the iteration, seconds of all of it.

        "processor" and "bare" are seconds of processor time, which other programs of the machine don't change much.
        """
        with self.denoiser.recording(), self.vae.recording():
            started = time.process_time()
            event, seconds = self.trainer.timed_step()
            processor = time.process_time() - started
        parts = {name: event.seconds[name] for name in ("rollout", "score", "update")}
        return {
            "variant": self.variant.name,
            "window": list(event.window),
            "forwards": {
                "rollout": self.denoiser.images(gradient=False) / self.images,
                "update": self.denoiser.images(gradient=True) / self.images,
            },
            "seconds": {"iteration": seconds, **parts, "rest": seconds - sum(parts.values())},
            "processor": processor,
            "bare": {"denoiser": self.denoiser.repeat(), "vae": self.vae.repeat()},
        }


def summarise(samples: Sequence[dict]) -> list[dict]:
    """One row a variant. Seconds and ratios are of whole sweeps, {"mean", "low", "high"} over the repeats.

    ratio: to the reference's iteration, in processor time; paper_ratio: the same over the places that the window
    visits in the paper's own 300 iterations; model_ratio: of rollout and update alone to the reference's.

    overhead: processor time of an iteration / of its bare work, {"median", "low", "high"} (quartiles) over all
    iterations: "denoiser" counts the denoiser's calls alone as bare work, "denoiser_and_vae" the VAE's decoding too.
    """
    names = list(dict.fromkeys(sample["variant"] for sample in samples))
    reference = dict(_sweeps(samples, DANCE_GRPO.name if DANCE_GRPO.name in names else names[0]))
    rows = []
    for name in names:
        mine = [sample for sample in samples if sample["variant"] == name]
        sweeps = list(_sweeps(samples, name))
        rows.append(
            {
                "variant": name,
                "iterations": len(mine),
                "forwards": {
                    phase: _mean(sample["forwards"][phase] for sample in mine) for phase in ("rollout", "update")
                },
                "seconds": {
                    phase: _over_repeats([sweep[phase] for _, sweep in sweeps]) for phase in ("iteration", *PHASES)
                },
                "processor": _over_repeats([sweep["processor"] for _, sweep in sweeps]),
                "ratio": _over_repeats([sweep["processor"] / reference[n]["processor"] for n, sweep in sweeps]),
                "paper_ratio": _over_repeats([sweep["paper"] / reference[n]["paper"] for n, sweep in sweeps]),
                "model_ratio": _over_repeats([_model(sweep) / _model(reference[n]) for n, sweep in sweeps]),
                "overhead": {
                    "denoiser": _quartiles([s["processor"] / s["bare"]["denoiser"] for s in mine]),
                    "denoiser_and_vae": _quartiles(
                        [s["processor"] / (s["bare"]["denoiser"] + s["bare"]["vae"]) for s in mine]
                    ),
                },
            }
        )
    return rows


def _sweeps(samples: Sequence[dict], name: str) -> Iterator[tuple[int, dict[str, float]]]:
    """(number, mean seconds of its iterations) of a variant's sweeps: by phase, of processor time, and of that over
    the paper's places ("paper").
    """
    mine = [sample for sample in samples if sample["variant"] == name]
    for number, group in itertools.groupby(mine, key=lambda sample: sample["repeat"]):
        sweep = list(group)
        # A window over all steps is at every iteration the same, and its randomly drawn steps cost alike.
        paper = [sample for sample in sweep if sample["window"][0] < PAPER_PLACES]
        yield (
            number,
            {
                **{phase: _mean(sample["seconds"][phase] for sample in sweep) for phase in ("iteration", *PHASES)},
                "processor": _mean(sample["processor"] for sample in sweep),
                "paper": _mean(sample["processor"] for sample in paper),
            },
        )


def _model(sweep: dict[str, float]) -> float:
    return sweep["rollout"] + sweep["update"]


def _mean(values: Iterable[float]) -> float:
    return statistics.fmean(values)


def _over_repeats(values: Sequence[float]) -> dict[str, float]:
    return {"mean": _mean(values), "low": min(values), "high": max(values)}


def _quartiles(values: Sequence[float]) -> dict[str, float]:
    if len(values) < 2:
        return {"median": values[0], "low": values[0], "high": values[0]}
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "low": low, "high": high}


def _rotated(values: Sequence[Measured], by: int) -> list[Measured]:
    by %= len(values)
    return [*values[by:], *values[:by]]
