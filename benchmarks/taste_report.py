"""The figures of a taste as a page."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from . import machine
from .report import table
from .taste_head import DIFFERENT
from .taste_training import ITERATIONS, SWEEPS
from .taste_voter import CLEAR, TASTES, WRONG


def of(sections: dict[str, dict]) -> str:
    """taste.md, from the sections "head" and "training" of taste.json."""
    parts = [introduction(), heads(sections["head"]["rows"]), trainings(sections["training"]["rows"])]
    about = f"Machine: {machine.sentence(sections['head']['machine'])}."
    return "\n\n".join([*parts, about, "```\n.venv/bin/python -m benchmarks taste --threads 1\n```"]) + "\n"


def introduction() -> str:
    return (
        "# A learned taste, by voters whose true taste is known\n\n"
        "The embedded tiny model, the demo's settings with two prompts of 12 images an iteration. A scripted voter "
        f"picks the best and the worst of four images; {WRONG:.0%} of the votes are blind, and sheets whose images "
        f"differ by less than {CLEAR} are skipped. One voter judges by the demo's *shapes* reward, the other one "
        "likes what is *large, blue, left*, whatever the prompt. True scores are from 0 to 1. `taste.json` holds "
        "every figure."
    )


def heads(rows: Sequence[dict]) -> str:
    lines = []
    for taste in TASTES:
        for votes in sorted({row["votes"] for row in rows}):
            here = [row for row in rows if (row["taste"], row["votes"]) == (taste, votes)]
            plain = [row for row in here if not row["active"]]
            seeds = {row["seed"] for row in plain}
            active = [row for row in here if row["active"] and row["seed"] in seeds]
            lines.append(
                [
                    taste, str(votes), str(len(plain)), mean(row["right"] for row in plain),
                    mean(row["right"] for row in active), mean(row["agrees"] for row in plain),
                    mean(row["told"]["mean"] for row in plain),
                    f"{sum(row['told']['low'] <= row['agrees'] <= row['told']['high'] for row in plain)}",
                    f"{statistics.mean(row['seconds'] for row in here):.1f}",
                ]
            )  # fmt: skip
    head = [
        "voter", "votes", "seeds", "right", "right, asked where unsure", "agrees with new votes", "its own estimate",
        "seeds inside its interval", "seconds to fit",
    ]  # fmt: skip
    return (
        "## What is learned\n\n"
        f"{table(head, lines)}\n\n"
        f"*Right*: of the pairs of a group whose true scores differ by more than {DIFFERENT}, on held-out prompts. "
        "*Asked where unsure*: of each group the four images were shown that the taste was least sure of, as "
        "*ask_every* does; else four whatever they are. *Agrees*: with the same voter's votes, blind ones too, on the "
        "held-out prompts; *its own estimate* of that is what the panel says, by cross-validation."
    )


def trainings(rows: Sequence[dict]) -> str:
    lines = []
    for taste in TASTES:
        kinds = sorted({(row["iterations"], row["way"], row["votes"]) for row in rows if row["taste"] == taste})
        for kind in kinds:
            runs = [r for r in rows if (r["iterations"], r["way"], r["votes"]) == kind and r["taste"] == taste]
            votes = mean((run["answers"] for run in runs), 0) if kind[2] else ""
            iterations = str(runs[0]["points"][-1]["iteration"])
            shapes = before_and_after(runs, "shapes") if taste != "shapes" else [""] * 3
            lines.append(
                [taste, kind[1], votes, iterations, str(len(runs)), *before_and_after(runs, taste), *shapes[1:]]
            )
    head = [
        "voter", "learned from", "votes", "iterations", "seeds", "true score before", "after", "change",
        "shapes after", "change",
    ]  # fmt: skip
    explained = (
        f"A run visits the window's {SWEEPS} places once. *live*: every group of an iteration's one prompt is voted "
        "on, four images, and nothing else teaches. *learned*: the votes were given on the untrained model's images. "
        "*learned and asked*: half of them were, the others on images of the training. *learned, half shapes*: the "
        "taste at 1 and the shapes reward at 0.5. Held-out prompts, two images each; the change with its standard "
        "deviation over the seeds."
    )
    return f"## What a training makes of it\n\n{table(head, lines)}\n\n{explained}\n\n{long_runs(rows)}"


def long_runs(rows: Sequence[dict]) -> str:
    told = ["Three times as long:"]
    for run in rows:
        if run["iterations"] > ITERATIONS:
            curve = ", ".join(f"{point[run['taste']]:.2f}" for point in run["points"])
            shapes = ", ".join(f"{point['shapes']:.2f}" for point in run["points"])
            notices = "; ".join(f'at iteration {at}: "{message}"' for at, message in run["notices"]) or "nothing"
            every = run["points"][1]["iteration"]
            told.append(
                f"- {run['taste']}, {run['way']}, seed {run['seed']}: true score every {every} iterations {curve}; "
                f"shapes {shapes}. The log said {notices}."
            )
    return "\n".join([told[0], "", *told[1:]]) if len(told) > 1 else ""


def before_and_after(runs: Sequence[dict], name: str) -> list[str]:
    first, last = ([run["points"][place][name] for run in runs] for place in (0, -1))
    changes = [after - before for before, after in zip(first, last, strict=True)]
    spread = f" +- {statistics.stdev(changes):.3f}" if len(changes) > 1 else ""
    return [mean(first), mean(last), f"{statistics.mean(changes):+.3f}{spread}"]


def mean(values: Iterable[float], digits: int = 3) -> str:
    return f"{statistics.mean(values):.{digits}f}"
