"""README.md of the results: the tables, the pictures, and how they were made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from . import machine, plots

RUN = ".venv/bin/python -m benchmarks"
REWARD_PLOT = "reward.png"
COST = {"tiny": "cost", "middle": "cost_middle"}  # model -> its section; a picture of the same name
MODEL = {
    "tiny": "the embedded tiny model",
    "middle": "a random FLUX of middle size (9 million parameters, 2 double and 4 single blocks of 256)",
}


def write(sections: dict[str, dict], folder: Path) -> Path:
    """Writes README.md and the pictures of the sections that there are (of bench.json) into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = ["# Benchmarks", _intro()]
    for model, name in COST.items():
        if name in sections:
            if "run" not in sections[name]["settings"]:
                raise ValueError(
                    f"The figures of the cost are an older version's: run `python -m benchmarks cost --model {model}`."
                )
            plots.cost(sections[name]["summary"], folder / f"{name}.png")
            parts.append(_cost(sections[name], model))
    if any(name in sections for name in COST.values()):
        parts.append(_COST_WORDS)
    if "reward" in sections:
        plots.reward(sections["reward"]["runs"], folder / REWARD_PLOT)
        parts.append(_reward(sections["reward"]))
    if "scoring" in sections:
        parts.append(_scoring(sections["scoring"]))
    parts.append(_commands(sections))
    path = folder / "README.md"
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return path


def _intro() -> str:
    return (
        "Measured on the embedded tiny model (1.1 million parameters, 64x64 pixels) through ComfyUI's model code and "
        "the engine's own trainer, on the CPU, at the sizes of `workflows/api/shapes_alignment.json`, and the cost "
        "also on a random FLUX of middle size, where forwards cost far more than what is around them. The algorithms "
        "are the pack's presets and differ in nothing else: no guidance, no KL, no average of the adapter, a constant "
        "learning rate. A tiny model on a CPU tells how the costs relate; how much reward a large model wins "
        "from each algorithm it can't tell. `bench.json` holds every single figure."
    )


def _cost(section: dict, model: str) -> str:
    run, rows = section["settings"]["run"], section["summary"]
    sizes = (
        f"{run['rollout']['steps']} steps, {_count(run['rollout']['prompts_per_iteration'], 'prompt')} x "
        f"{run['rollout']['group_size']} images of {run['run']['width']}x{run['run']['height']} pixels, "
        f"{run['optimizer']['updates']} updates, LoRA rank {run['adapter']['rank']}"
    )
    figures = table(
        ("algorithm", "image-forwards an image: rollout", "update", "seconds an iteration", "rollout",
         "decode and score", "update", "rest", "processor seconds", f"of {rows[0]['variant']}",
         "of it, window starts 0 to 11", "rollout and update alone", "overhead: denoiser only",
         "overhead: denoiser + VAE decode"),
        map(_cost_row, rows),
    )  # fmt: skip
    repeats, stride = section["settings"]["repeats"], section["settings"]["stride"]
    places = "all its places" if stride == 1 else f"its places {stride} steps apart"
    return "\n\n".join(
        [
            f"## Cost of an iteration: {MODEL[model]}",
            f"One iteration: {sizes}. The window visits {places} once a sweep; means over {_count(repeats, 'sweep')} "
            f"({rows[0]['iterations']} iterations of each algorithm, which take turns iteration by iteration), in "
            "brackets the lowest and the highest sweep. All images have an advantage, so that none is left out of the "
            "update.",
            figures,
            f"![Seconds an iteration]({COST[model]}.png)",
            f"Machine: {machine.sentence(section['machine'])}.",
        ]
    )


_COST_WORDS = (
    "*Nothing shared*: MixGRPO as other implementations run it, every image with its own copy of the steps that a "
    "group that shares its noise has in common. *Processor seconds*, and the ratios and overheads made of them, change "
    "little with what else the machine does. *Window starts 0 to 11*: the same ratio over the places that the window "
    "visits in the paper's own 300 iterations, where the whole sweep goes on to the last step. *Rollout and update "
    "alone*: the ratio of their seconds without decoding and scoring, which cost the same for every algorithm: much of "
    "a tiny model's iteration, little of a large one's. *Overhead*: an iteration / the model's bare work, timed right "
    "after it; median over the iterations, in brackets the quartiles. The bare work is the very calls of that "
    "iteration again (the same batch sizes, in the same order, with ready inputs, with a backward pass where the "
    "iteration had one), made on ComfyUI's diffusion model with its LoRA directly; *+ VAE decode* counts the decoding "
    "of the images, too, so that what remains is sampling mathematics, scoring, loss, optimizer and bookkeeping."
)


def _cost_row(row: dict) -> list[str]:
    seconds, overhead = row["seconds"], row["overhead"]
    return [
        row["variant"],
        f"{row['forwards']['rollout']:.2f}",
        f"{row['forwards']['update']:.2f}",
        _span(seconds["iteration"], "mean", ".2f"),
        *(f"{seconds[phase]['mean']:.3f}" for phase in ("rollout", "score", "update", "rest")),
        f"{row['processor']['mean']:.2f}",
        _span(row["ratio"], "mean", ".0%"),
        f"{row['paper_ratio']['mean']:.0%}",
        f"{row['model_ratio']['mean']:.0%}",
        _span(overhead["denoiser"], "median", ".2f"),
        _span(overhead["denoiser_and_vae"], "median", ".2f"),
    ]


def _reward(section: dict) -> str:
    settings, rows = section["settings"], section["summary"]
    run = settings["demo"]
    figures = table(
        ("algorithm", "seeds", "window", "iterations", "image-forwards", "held-out reward before", "after", "gain",
         "strictly right before", "after"),
        map(_reward_row, rows),
    )  # fmt: skip
    return "\n\n".join(
        [
            "## Reward against time",
            f"Every run trains for {settings['seconds']:g} processor seconds (its iterations' own: evaluations "
            f"don't count) at learning rate {run['optimizer']['learning_rate']:g}. The held-out prompts, "
            f"{run['run']['evaluate_images']} images each, are scored with the same noises at the start and "
            f"up to {settings['evaluations']} times after it. Mean and standard deviation over the seeds.",
            figures,
            f"![Held-out reward against seconds of training]({REWARD_PLOT})",
            "The learning rate and the window are the demo's, which were chosen for MixGRPO-Flash; none of the "
            "algorithms was tuned for this comparison.",
            f"Machine: {machine.sentence(section['machine'])}.",
        ]
    )


def _reward_row(row: dict) -> list[str]:
    return [
        row["variant"],
        str(row["seeds"]),
        window_words(row["window"]),
        _plus_minus(row["iterations"], ".0f"),
        f"{row['forwards']['mean']:,.0f}",
        *(_plus_minus(row[name], ".3f") for name in ("reward_before", "reward_after", "gain")),
        *(_plus_minus(row[name], ".3f") for name in ("strict_before", "strict_after")),
    ]


def window_words(window: dict) -> str:
    """A window's settings (WindowConfig as a dict) in a few words."""
    if window["size"] == 0:
        return "every step" if window["trained_share"] == 1 else f"every step, {window['trained_share']:.0%} trained"
    if window["strategy"] == "frozen":
        return f"{window['size']} steps, frozen at the first"
    places = f"starts 0 to {window['max_start']}" if window["max_start"] >= 0 else "all starts"
    again = ", again and again" if window["wrap"] else ""
    return f"{window['size']} steps, {places}, {window['interval']} iterations each{again}"


def _scoring(section: dict) -> str:
    settings = section["settings"]
    figures = table(("way", "seconds a group", "of one batch"), map(_scoring_row, section["summary"]))
    return "\n\n".join(
        [
            "## Scoring a group",
            f"CLIPScore of a group of {settings['images']} images of {settings['pixels']}x{settings['pixels']} pixels "
            "and their prompt, by a CLIP of ViT-B/32's size (random weights), with everything from the image tensor "
            f"to the score. The ways take turns, {settings['rounds']} rounds; medians, in brackets the quartiles; the "
            "ratio is to one batch in the same round.",
            figures,
            "*An image a call*: the same scorer, which remembers the prompt. *Published way*: Pillow, CLIPProcessor "
            "and the network for one image and its prompt at a time, as model cards show it.",
            f"Machine: {machine.sentence(section['machine'])}.",
        ]
    )


def _scoring_row(row: dict) -> list[str]:
    return [row["way"], _span(row["seconds"], "median", ".2f"), _span(row["ratio"], "median", ".2f")]


def _commands(sections: dict[str, dict]) -> str:
    lines = ["make bench    # all parts; an interrupted one goes on where it stopped"]
    for model, name in COST.items():
        if name in sections:
            settings = sections[name]["settings"]
            sizes = f"--repeats {settings['repeats']} --stride {settings['stride']}"
            lines.append(f"{RUN} cost --model {model} {sizes}{_threads(sections[name])}")
    if "reward" in sections:
        settings, rows = sections["reward"]["settings"], sections["reward"]["summary"]
        lines.append(
            f"{RUN} reward --seconds {settings['seconds']:g} "
            f"--seeds {max(row['seeds'] for row in rows)} --evaluations {settings['evaluations']}"
            f"{_threads(sections['reward'])}"
        )
    if "scoring" in sections:
        rounds = sections["scoring"]["settings"]["rounds"]
        lines.append(f"{RUN} scoring --rounds {rounds}{_threads(sections['scoring'])}")
    lines.append(f"{RUN} report    # this page again, from bench.json")
    return "\n".join(["## Commands", "", "```", *lines, "```"])


def _threads(section: dict) -> str:
    """The option, where it was fewer threads than torch would take by itself."""
    where = section["machine"]
    return f" --threads {where['threads']}" if where["threads"] < where["cores"] else ""


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'s' * (number != 1)}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _span(value: dict[str, float], middle: str, form: str) -> str:
    return f"{value[middle]:{form}} ({value['low']:{form}} to {value['high']:{form}})"


def _plus_minus(value: dict[str, float | None], form: str) -> str:
    mean = f"{value['mean']:{form}}"
    return mean if value["spread"] is None else f"{mean} +- {value['spread']:{form}}"
