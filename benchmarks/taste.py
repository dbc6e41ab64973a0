"""`python -m benchmarks taste`: what a learned taste is worth, by scripted voters whose true taste is known."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from mixgrpo_engine.config import TrainConfig

from . import machine, taste_report
from .results_file import ResultsFile
from .subject import Subject
from .taste_groups import Group, demo, groups
from .taste_head import measure
from .taste_training import BOTH, ITERATIONS, LEARNED, LIVE, MIXED, TRUE, Kind, train
from .taste_voter import TASTES, LargeBlueLeft

FILE = "taste.json"
PROMPTS = 2  # an iteration
SHOWN, NEW = 240, 40  # groups to be voted on, and of held-out prompts: a quarter is skipped
LONG = 3 * ITERATIONS
BLIND = LargeBlueLeft.name
Shown = Callable[[int, int], Sequence[Group]]

CORE = Kind(TRUE), Kind(LEARNED, 40), Kind(LEARNED, 20)
MORE = Kind(MIXED, 40), Kind(BOTH, 40), Kind(LIVE, 40)
MOST = tuple(Kind(way, votes) for votes in (160, 80) for way in (LIVE, LEARNED, BOTH)) + (
    Kind(LIVE, 20),
    Kind(BOTH, 20),
)
LONGER = Kind(LEARNED, 40, LONG), Kind(MIXED, 40, LONG)


def wanted(seeds: int) -> list[tuple[str, Kind, int]]:
    """All runs, what matters most first: whoever stops early has a table of it."""
    others = range(1, seeds)
    first = [(kinds, [0]) for kinds in (CORE, MORE, LONGER, MOST)]
    order = [*first, *((kinds, others) for kinds in (CORE, MORE, MOST, LONGER))]
    return [
        (taste, kind, seed)
        for kinds, their_seeds in order
        for seed in their_seeds
        for kind in kinds
        for taste in reversed(TASTES)
        if kind.way != MIXED or taste == BLIND  # the other one is what is mixed in
    ]


def run(folder: Path, seeds: int, fresh: bool = False) -> Path:
    """Measures what is missing, and writes figures and report into the folder.

    Raises ValueError for figures of another machine or other settings, unless they may be lost (fresh).
    """
    subject = demo()
    rollout = dataclasses.replace(subject.settings.rollout, prompts_per_iteration=PROMPTS)
    subject.settings = dataclasses.replace(subject.settings, rollout=rollout)
    results, here = ResultsFile(folder / FILE), machine.describe()
    if fresh:
        results.sections.clear()
    about = {"settings": subject.settings.as_dict(), "machine": here}
    for name, section in results.sections.items():
        # A setting that came since had its default then.
        section["settings"] = TrainConfig.from_dict(section["settings"]).as_dict()
        if not results.matches(name, about["settings"], here):
            raise ValueError(f"{results.path} holds figures of other settings or another machine: give --fresh.")
    known: dict[int, list[Group]] = {}

    def shown(seed: int, count: int) -> Sequence[Group]:
        if len(known.get(seed, ())) < count:
            known[seed] = groups(subject, seed, count)
        return known.get(seed, [])

    with tempfile.TemporaryDirectory(prefix="mixgrpo-benchmark-") as features:
        for taste, kind, seed in wanted(seeds):
            measure_heads(subject, seed, shown, results, about)
            measure_training(subject, taste, kind, seed, shown, results, about, Path(features))
    report = folder / "taste.md"
    report.write_text(taste_report.of(results.sections), encoding="utf-8")
    return report


def groups_for(kind: Kind) -> int:
    """How many are enough for a kind's votes."""
    return 0 if kind.way in (TRUE, LIVE) else min(SHOWN, 20 + round(1.4 * kind.votes))


def measure_heads(subject: Subject, seed: int, shown: Shown, results: ResultsFile, about: dict) -> None:
    rows = results.sections.get("head", {}).get("rows", [])
    done = {(row["taste"], row["active"]) for row in rows if row["seed"] == seed}
    missing = [(taste, active) for taste in TASTES for active in (False, True) if (taste, active) not in done]
    new = groups(subject, seed, NEW, held_out=True) if missing else []
    for taste, active in missing:
        rows = [
            *rows,
            *({"taste": taste, "seed": seed, **row} for row in measure(taste, seed, shown(seed, SHOWN), new, active)),
        ]
    results.save("head", {**about, "rows": rows})


def measure_training(
    subject: Subject, taste: str, kind: Kind, seed: int, shown: Shown, results: ResultsFile, about: dict, features: Path
) -> None:
    rows = results.sections.get("training", {}).get("rows", [])
    key = {"taste": taste, **dataclasses.asdict(kind), "seed": seed}
    if any(key.items() <= row.items() for row in rows):
        return
    row = {**train(subject, taste, kind, seed, shown(seed, groups_for(kind)), features), **key}
    results.save("training", {**about, "rows": [*rows, row]})
    print(f"taste: {key}: {row['points'][-1]}, {row['answers']} votes, {row['seconds']:.0f} s", flush=True)
