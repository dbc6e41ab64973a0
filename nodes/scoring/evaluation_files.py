"""What an evaluation leaves: a report as JSON, its rows as CSV, a few lines of text, and a grid."""

from __future__ import annotations

import csv
import dataclasses
import json

import torch
from torch import Tensor

from ...mixgrpo_engine.records.files import write_json
from ...mixgrpo_engine.records.grid import labelled_grid, stills
from ...mixgrpo_engine.rewards.comparison import compare
from . import output_files
from .evaluation import Result
from .score_list import number
from .stock_sampling import Sampling

CELL = 192  # pixels of an image on the grid
METHODS = {
    "difference": "paired t over the prompts, 95% interval",
    "win_rate": "share of image pairs that the tuned model wins, ties half; Wilson 95% interval over the prompts",
}


def report(result: Result, sampling: Sampling, negative: str, source: str) -> dict:
    """The whole evaluation as JSON-ready data; a score that failed is None."""
    measures = _measures(result)
    return {
        "settings": {**dataclasses.asdict(sampling), "negative": negative, "prompts_from": source},
        "methods": METHODS,
        "shares": result.shares,
        "summary": {name: compare(values["base"], values["tuned"]) for name, values in measures.items()},
        "reasons": result.reasons,
        "remarks": result.remarks,
        "prompts": [
            {
                "prompt": prompt,
                "seed": sampling.seed_of(place),
                **{
                    model: {name: [number(v) for v in values[model][place]] for name, values in measures.items()}
                    for model in result.scores
                },
            }
            for place, prompt in enumerate(result.prompts)
        ],
    }


def summary(report: dict) -> str:
    """A few lines for people: settings, then a line a scorer."""
    settings = report["settings"]
    lines = [
        f"{len(report['prompts'])} {settings['prompts_from']} x {settings['images']} images, base against tuned, "
        f"{settings['sampler']}/{settings['scheduler']}, {settings['steps']} steps, cfg {settings['cfg']:g}"
    ]
    lines += [_line(name, result) for name, result in report["summary"].items()]
    return "\n".join([*lines, *report["reasons"], *report["remarks"]])


def _line(name: str, result: dict) -> str:
    failed = f"; {result['failed']} image pairs could not be scored and are left out" if result["failed"] else ""
    if result["base"] is None:
        return f"{name}: no image pair could be scored."
    difference, wins = result["difference"], result["win_rate"]
    sure, share = "one prompt alone has no interval", ""
    if difference["low"] is not None:
        sure = f"95% interval {difference['low']:+.4f} to {difference['high']:+.4f}"
        share = f" ({wins['low']:.0%} to {wins['high']:.0%})"
    return (
        f"{name}: {result['base']:.4f} -> {result['tuned']:.4f}, difference {difference['mean']:+.4f} ({sure}), "
        f"tuned wins {wins['mean']:.0%}{share}{failed}"
    )


def write(report: dict, prefix: str) -> list[dict[str, str]]:
    """Writes <prefix>_<number>_.json and .csv into the output folder; how clients find them."""
    folder, name, counter, subfolder = output_files.place(prefix)
    stem = f"{name}_{counter:05}_"
    write_json(folder / f"{stem}.json", report)
    with open(folder / f"{stem}.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows(report))
    return [output_files.entry(f"{stem}.{kind}", subfolder) for kind in ("json", "csv")]


def rows(report: dict) -> list[list]:
    """A header, then a row for each pair of images; nothing where scoring failed."""
    names = list(report["summary"])
    header = ["prompt", "seed", "image"] + [f"{model} {name}" for name in names for model in ("base", "tuned")]
    return [header] + [
        [entry["prompt"], entry["seed"], image]
        + ["" if (v := entry[model][name][image]) is None else v for name in names for model in ("base", "tuned")]
        for entry in report["prompts"]
        for image in range(report["settings"]["images"])
    ]


def grid(result: Result, frames: int = 1) -> Tensor:
    """The labelled grid as IMAGE (1, height, width, 3): two prompts a row, base to the left of tuned.

    Of videos some frames side by side, one prompt a row.
    """
    import numpy as np

    measures = _measures(result)
    count = len(result.shown["base"])
    pairs = [(place, model) for place in range(count) for model in ("base", "tuned")]
    labels = [f"{model} {_scores(measures, model, place)}: {result.prompts[place]}" for place, model in pairs]
    images = torch.stack([result.shown[model][place] for place, model in pairs])
    images, which = stills(images, frames)
    columns = 4 if count > 1 and frames == 1 else 2
    sheet = labelled_grid(
        images,
        labels,
        columns,
        cell=CELL if frames == 1 else 2 * CELL,
        title=f"base | tuned{f': {which}' if which else ''}",
        label_lines=4 + len(measures) // 2,
    )
    return torch.from_numpy(np.asarray(sheet, dtype=np.float32) / 255)[None]


def _scores(measures: dict, model: str, place: int) -> str:
    """The shown image's scores."""
    values = {name: number(by_model[model][place][0]) for name, by_model in measures.items()}
    return ", ".join(f"{name} {'-' if value is None else f'{value:.3f}'}" for name, value in values.items())


def _measures(result: Result) -> dict[str, dict[str, Tensor]]:
    """By scorer, then by model; the total of a mix comes last."""
    measures = {name: {model: result.scores[model][name] for model in result.scores} for name in result.shares}
    if result.totals is not None:
        measures["total" if "total" not in measures else "total of the mix"] = result.totals
    return measures


def dump(report: dict) -> str:
    return json.dumps(report, indent=1, allow_nan=False)
