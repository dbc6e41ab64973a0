"""The two pictures of the results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .cost import PHASES

PHASE_NAMES = {"rollout": "rollout", "score": "decode and score", "update": "update", "rest": "rest"}
PHASE_COLORS = {"rollout": "#4477aa", "score": "#ccbb44", "update": "#ee6677", "rest": "#999999"}
VARIANT_COLORS = ("#999999", "#ccbb44", "#4477aa", "#228833", "#aa3377", "#66ccee", "#ee6677")
GRID_POINTS = 200  # of the mean line


def cost(rows: Sequence[dict], path: Path) -> None:
    """Seconds an iteration by phase, one bar a variant; rows: cost.summarise."""
    figure, axes = _figure(height=0.6 * len(rows) + 1.6)
    left = np.zeros(len(rows))
    for phase in PHASES:
        widths = np.array([max(0.0, row["seconds"][phase]["mean"]) for row in rows])
        axes.barh(range(len(rows)), widths, left=left, color=PHASE_COLORS[phase], label=PHASE_NAMES[phase])
        left += widths
    for place, row in enumerate(rows):
        axes.text(left[place], place, f"  {row['ratio']['mean']:.0%}", va="center")
    axes.set_yticks(range(len(rows)), [row["variant"] for row in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.12 * left.max())
    axes.set(xlabel=f"seconds an iteration (percent: of {rows[0]['variant']})")
    axes.grid(alpha=0.3, axis="x")
    axes.legend(loc="lower right")
    _save(figure, path)


def reward(runs: Sequence[dict], path: Path) -> None:
    """Held-out reward against seconds of training: mean over the seeds, band of one standard deviation."""
    figure, axes = _figure(height=5)
    for color, name in zip(VARIANT_COLORS, dict.fromkeys(run["variant"] for run in runs), strict=False):
        seconds, curves = curves_of([run for run in runs if run["variant"] == name])
        mean = curves.mean(axis=0)
        axes.plot(seconds, mean, color=color, label=f"{name} ({len(curves)} seeds)")
        if len(curves) > 1:
            spread = curves.std(axis=0, ddof=1)
            axes.fill_between(seconds, mean - spread, mean + spread, color=color, alpha=0.15, linewidth=0)
    axes.set(xlabel="seconds of training", ylabel="held-out reward")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left")
    _save(figure, path)


def curves_of(runs: Sequence[dict]) -> tuple[np.ndarray, np.ndarray]:
    """(seconds (points,), rewards (runs, points)) up to the end of the shortest run, between its points linear."""
    seconds = np.linspace(0, min(run["points"][-1]["seconds"] for run in runs), GRID_POINTS)
    curves = [
        np.interp(seconds, [p["seconds"] for p in run["points"]], [p["reward"] for p in run["points"]]) for run in runs
    ]
    return seconds, np.stack(curves)


def _figure(height: float):
    from matplotlib.figure import Figure

    # No pyplot: it keeps global state and would open windows.
    figure = Figure(figsize=(8.5, height), dpi=110, layout="tight")
    return figure, figure.add_subplot()


def _save(figure, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure).print_png(path)
