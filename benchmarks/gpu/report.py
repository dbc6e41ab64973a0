"""What a check has found, as markdown: facts in lists, figures in tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..report import table

NAME = "gpu"  # of the files


def text(results: dict) -> str:
    """The report of {"command", "device", "small", "sections": {name: what came of it}}."""
    sections = results["sections"]
    parts = [
        "# GPU check",
        f"`{results['command']}` on {results['device']}"
        + (", with models of two layers: figures of time and memory mean nothing." if results["small"] else "."),
        *_summary(sections),
    ]
    for name, section in sections.items():
        parts += [f"## {name}", section["about"], *_section(section)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _summary(sections: dict[str, dict]) -> Iterable[str]:
    for kind, words in (("failed", "Failed"), ("left_out", "Left out")):
        names = [name for name, section in sections.items() if kind in section]
        yield f"{words}: {', '.join(names) or 'nothing'}."


def _section(section: dict) -> Iterable[str]:
    if "left_out" in section:
        yield f"Left out: {section['left_out']}"
        return
    if "failed" in section:
        yield f"**Failed** after {section['seconds']:.0f} s: {section['failed']}"
        yield "\n".join(f"- `{place}`" for place in section.get("where", ()))
        return
    figures = section["figures"]
    tables = {name: value for name, value in figures.items() if _is_table(value)}
    yield "\n".join(f"- {name}: {words(value)}" for name, value in figures.items() if name not in tables)
    for name, rows in tables.items():
        columns = list(dict.fromkeys(column for row in rows for column in row))
        yield f"{name}:"
        yield table(columns, ([words(row.get(column)) for column in columns] for row in rows))
    yield f"It took {section['seconds']:.0f} s."


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def words(value: Any) -> str:
    """A figure for people, in three digits; nothing for None. What would break a table or a page is taken out."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {words(each)}" for name, each in value.items())
    if isinstance(value, list):
        return " ".join(map(words, value))
    return " ".join(str(value).replace("|", "/").split())
