"""A run as one HTML file to share: curve, images, settings, notices. No scripts, and all data is escaped text."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable
from typing import Any

from ...mixgrpo_engine.records import events
from ...mixgrpo_engine.records.run_folder import RunFolder
from . import gallery, paths, preset_differences, stored_prompts
from .history import History

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
COLORS = ("#3b82f6", "#f97316", "#22c55e", "#ec4899", "#8b5cf6", "#14b8a6")
WIDTH, HEIGHT, MARGIN = 860, 320, 48
SHOWN = 8  # images of an iteration
POINTS = 600
KINDS = {".webp": "image/webp", ".png": "image/png", ".jpg": "image/jpeg"}
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:900px;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse}td,th{border:1px solid #8884;padding:.2em .6em;text-align:left}"
    ".images{display:grid;grid-template-columns:repeat(auto-fill,minmax(180px,1fr));gap:10px}"
    "figure{margin:0}img,svg{max-width:100%;height:auto}figcaption{font-size:12px}"
    "@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}}"
)


def make(folder: RunFolder, summary: dict, job: dict, history: History) -> str:
    """The page's text."""
    name = _text(summary["name"])
    parts = [
        f"<h1>{name}</h1>",
        f"<p>{_text(_line(summary))}</p>",
        f"<p>{_text(summary['note'])}</p>" if summary.get("note") else "",
        "<h2>Reward</h2>",
        _curve(history, _measured(summary)),
        _gallery(history),
        "<h2>Settings</h2>",
        _settings(job.get("config")),
        _notices(history.notices),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>{name}</title><style>{STYLE}</style></head><body>{''.join(parts)}</body></html>"
    )


def _text(value: Any) -> str:
    return html.escape(str(value))


def _line(summary: dict) -> str:
    told = [f"Run {summary['run_id']}: {summary['state']}"]
    if summary.get("iteration") is not None:
        told.append(f"iteration {summary['iteration']} of {summary.get('iterations')}")
    if summary.get("held_out_reward"):
        told.append(f"{_measured(summary)}: {events.scores(summary['held_out_reward'])}")
    return ", ".join(told)


def _measured(summary: dict) -> str:
    return stored_prompts.measured(summary.get("held_out_prompts"))


def _curve(history: History, measured: str) -> str:
    """Train and measured reward of every scorer as SVG."""
    trained, evaluated = history.iterations.told(POINTS), history.evaluations.told()
    names = sorted({name for told in (trained, evaluated) for name in told if name.startswith("reward.")})
    lines = [
        (f"{name[7:]}, {kind}", COLORS[number % len(COLORS)], weight, _known(told, name))
        for number, name in enumerate(names)
        for told, kind, weight in ((trained, "training prompts", 1), (evaluated, measured, 3))
    ]
    lines = [line for line in lines if line[3]]
    every = [point for line in lines for point in line[3]]
    if not every:
        return "<p>No iteration was finished.</p>"
    (left, right), (low, high) = (_span(values) for values in zip(*every, strict=True))

    def place(x: float, y: float) -> str:
        across = MARGIN + (x - left) / (right - left) * (WIDTH - MARGIN - 10)
        down = HEIGHT - 30 - (y - low) / (high - low) * (HEIGHT - 40)
        return f"{across:.1f},{down:.1f}"

    drawn = [
        f'<polyline fill="none" stroke="{color}" stroke-width="{weight}" '
        f'points="{" ".join(place(*point) for point in points)}"><title>{_text(label)}</title></polyline>'
        for label, color, weight, points in lines
    ]
    marks = [
        f'<text x="2" y="{HEIGHT - 30}">{low:.3g}</text><text x="2" y="14">{high:.3g}</text>',
        f'<text x="{MARGIN}" y="{HEIGHT - 8}">{left:.0f}</text>'
        f'<text x="{WIDTH - 10}" y="{HEIGHT - 8}" text-anchor="end">iteration {right:.0f}</text>',
    ]
    key = "".join(f'<li style="color:{color}">{_text(label)}</li>' for label, color, _, _ in lines)
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" font-size="12" '
        f'fill="currentColor">{"".join(marks + drawn)}</svg><ul>{key}</ul>'
    )


def _known(told: dict, name: str) -> list[tuple[float, float]]:
    pairs = zip(told["iteration"], told.get(name, []), strict=False)
    return [(iteration, value) for iteration, value in pairs if value is not None]


def _span(values: Iterable[float]) -> tuple[float, float]:
    found = list(values)
    low, high = min(found), max(found)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _gallery(history: History) -> str:
    """The images before, half-way and at the end."""
    samples = gallery.samples(history)
    chosen = sorted({0, len(samples) // 2, len(samples) - 1}) if samples else []
    parts = []
    for number in chosen:
        figures = [_figure(image) for image in samples[number]["images"][:SHOWN]]
        parts.append(f'<h2>Iteration {samples[number]["iteration"]}</h2><div class="images">{"".join(figures)}</div>')
    return "".join(parts)


def _figure(image: dict) -> str:
    view, scores = image["view"], image["scores"]
    path = paths.output_directory() / view["subfolder"] / view["filename"]
    kind = KINDS.get(path.suffix)
    if kind is None:
        return ""
    data = base64.b64encode(path.read_bytes()).decode()
    told = ", ".join(f"{name} {value:.4g}" for name, value in _numbers(scores)) if isinstance(scores, dict) else ""
    prompt = _text(image["prompt"] or "")
    return (
        f'<figure><img alt="{prompt}" src="data:{kind};base64,{data}">'
        f"<figcaption>{prompt}<br>{_text(told)}</figcaption></figure>"
    )


def _numbers(scores: dict) -> list[tuple[str, float]]:
    return [(name, value) for name, value in scores.items() if isinstance(value, (int, float))]


def _settings(config: Any) -> str:
    """What differs from the nearest preset first, then all of them."""
    told = preset_differences.told(config)
    if told["preset"] is None:
        return "<p>They can't be read.</p>"
    changed = [(each["setting"], each["value"], each["preset"]) for each in told["changed"]]
    every = [(f"{group}.{name}", value) for group, values in config.items() for name, value in values.items()]
    near = "Custom: nearest to" if changed else "The settings of"
    first = f"<p>{near} the preset {_text(told['preset'])}</p>"
    table = _table(("setting", "here", "preset"), changed) if changed else ""
    return f"{first}{table}<details><summary>All settings</summary>{_table(('setting', 'value'), every)}</details>"


def _notices(notices: list[dict]) -> str:
    if not notices:
        return ""
    items = "".join(f"<li>Iteration {_text(each['iteration'])}: {_text(each['message'])}</li>" for each in notices)
    return f"<h2>Notices</h2><ol>{items}</ol>"


def _table(head: tuple[str, ...], rows: Iterable[tuple]) -> str:
    cells = "".join(f"<th>{_text(cell)}</th>" for cell in head)
    lines = "".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{cells}</tr>{lines}</table>"
