"""The reward curve of a run as a picture: reward.png, drawn from events.jsonl."""

from __future__ import annotations

from pathlib import Path

from ...mixgrpo_engine.records import events
from ...mixgrpo_engine.records.run_folder import RunFolder


def draw(folder: RunFolder) -> Path | None:
    """Draws reward.png into the run folder; None when there is nothing to draw yet."""
    history = events.read(folder.events)[0]
    trained, held_out = series(history, "iteration"), series(history, "evaluation")
    if not trained and not held_out:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # No pyplot: it keeps global state and would open windows.
    figure = Figure(figsize=(8, 4.5), dpi=120, layout="tight")
    axes = figure.add_subplot()
    for number, name in enumerate(sorted({*trained, *held_out})):
        color = f"C{number}"
        if name in trained:
            axes.plot(*zip(*trained[name], strict=True), color=color, alpha=0.6, label=f"{name}, training prompts")
        if name in held_out:
            axes.plot(*zip(*held_out[name], strict=True), "o-", color=color, label=f"{name}, held-out prompts")
    best = best_iteration(history)
    if best is not None:
        axes.axvline(best, color="0.4", linestyle=":", label=f"best LoRA, iteration {best}")
    axes.set(title=folder.name, xlabel="iteration", ylabel="reward")
    axes.grid(alpha=0.3)
    axes.legend()
    target = folder.path / "reward.png"
    temporary = target.with_name(".reward.tmp.png")
    FigureCanvasAgg(figure).print_png(temporary)
    temporary.replace(target)
    return target


def best_iteration(history: list[dict]) -> int | None:
    """After how many iterations the best LoRA was kept; None when none was."""
    return next((event["iteration"] for event in reversed(history) if event["type"] == "best"), None)


def series(history: list[dict], kind: str) -> dict[str, list[tuple[int, float]]]:
    """Reward name -> [(iteration, mean reward)] of one kind of event.

    A resumed run repeats the iterations since its checkpoint: the later value counts.
    """
    found: dict[str, dict[int, float]] = {}
    for event in history:
        if event["type"] == kind:
            for name, value in event["reward"].items():
                if value is not None:
                    found.setdefault(name, {})[event["iteration"]] = value
    return {name: sorted(values.items()) for name, values in found.items()}
