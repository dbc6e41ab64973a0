"""The reward curve of a run as a picture: reward.png, drawn from events.jsonl."""

from __future__ import annotations

from pathlib import Path

from ...mixgrpo_engine.records.files import written_beside
from ...mixgrpo_engine.records.run_folder import RunFolder
from . import stored, stored_prompts
from .history import History

REWARD = "reward."


def draw(folder: RunFolder) -> Path | None:
    """Draws reward.png into the run folder; None when there is nothing to draw yet."""
    history = History(folder)
    history.read_on()
    names = sorted({name for columns in (history.iterations, history.evaluations) for name in columns.values})
    names = [name for name in names if name.startswith(REWARD)]
    if not names:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    measured = stored_prompts.measured(stored_prompts.counts(stored.job(folder))["held_out"])
    # No pyplot: it keeps global state and would open windows.
    figure = Figure(figsize=(8, 4.5), dpi=120, layout="tight")
    axes = figure.add_subplot()
    for number, name in enumerate(names):
        color, label = f"C{number}", name[len(REWARD) :]
        if trained := history.iterations.series(name):
            axes.plot(*zip(*trained, strict=True), color=color, alpha=0.6, label=f"{label}, training prompts")
        if evaluated := history.evaluations.series(name):
            axes.plot(*zip(*evaluated, strict=True), "o-", color=color, label=f"{label}, {measured}")
    if history.best:
        best = history.best["iteration"]
        axes.axvline(best, color="0.4", linestyle=":", label=f"best LoRA, iteration {best}")
    axes.set(title=folder.name, xlabel="iteration", ylabel="reward")
    axes.grid(alpha=0.3)
    axes.legend()
    target = folder.path / "reward.png"
    with written_beside(target) as temporary:
        FigureCanvasAgg(figure).print_png(temporary)
    return target
