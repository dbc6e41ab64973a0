"""Prompts as people write them down: text with one a line, JSONL and CSV files, and lists."""

from __future__ import annotations

import csv
import io
import json
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Sequence
from pathlib import Path

from .prompts import BOM, cleaned

SUFFIXES = (".txt", ".jsonl", ".csv")
COLUMN = "prompt"  # in JSONL and CSV
_SEPARATORS = ",;\t"  # of CSV: some languages' spreadsheets write the other two
_LONGEST_CELL = 2**24  # characters; csv's own limit is shorter than a prompt may be


def of_text(text: str) -> list[str]:
    """The prompts of a text, one a line.

    Only \\n and \\r\\n end a line: what else Unicode calls a line's or page's end is part of a prompt.
    """
    return cleaned(re.split(r"\r?\n", text))


def of_texts(texts: Sequence[str]) -> list[str]:
    """The prompts of one text, one a line; of several texts, each is a prompt."""
    return of_text(texts[0]) if len(texts) == 1 else cleaned(texts)


def read(path: Path) -> list[str]:
    """The prompts of a file: one a line, {"prompt": ...} a line in .jsonl, the column "prompt" of .csv. As rows()."""
    return [row[COLUMN] for row in rows(path) if row[COLUMN]]


def rows(path: Path) -> list[dict[str, str]]:
    """The lines of a file as texts by column, "prompt" always among them; lines that are empty are left out.

    UTF-8, or UTF-16 with its byte order mark. Raises ValueError with one sentence, OSError where it can't be opened.
    """
    data = path.read_bytes()
    try:
        text = data.decode("utf-16" if data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8").replace(BOM, "")
        found = {".jsonl": _of_jsonl, ".csv": _of_csv}.get(path.suffix.lower(), _of_lines)(text)
        return [row for row in found if any(row.values())]
    except UnicodeDecodeError:
        raise ValueError(f"The prompt file '{path.name}' isn't UTF-8 text: save it as UTF-8.") from None
    except ValueError as error:
        raise ValueError(f"The prompt file '{path.name}' can't be used. {error}") from None


def _of_lines(text: str) -> list[dict[str, str]]:
    return [{COLUMN: prompt} for prompt in of_text(text)]


def _of_jsonl(text: str) -> list[dict[str, str]]:
    found = []
    for number, line in enumerate(re.split(r"\r?\n", text), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"Line {number} isn't JSON ({error}): mend it.") from None
        if not isinstance(entry, dict) or not isinstance(entry.get(COLUMN), str):
            raise ValueError(f'Line {number} has no text "{COLUMN}": write {{"{COLUMN}": "..."}} a line.')
        told = {name: value for name, value in entry.items() if value is not None}
        found.append(
            {name: _clean(value if isinstance(value, str) else json.dumps(value)) for name, value in told.items()}
        )
    return found


def _of_csv(text: str) -> list[dict[str, str]]:
    before = csv.field_size_limit(_LONGEST_CELL)
    try:
        for separator in _SEPARATORS:
            found = _table(text, separator)
            if found is not None:
                return found
    finally:
        csv.field_size_limit(before)
    raise ValueError(f"Its first line names no column '{COLUMN}': add that header.")


def _table(text: str, separator: str) -> list[dict[str, str]] | None:
    """The rows by the header's names, None where there is no such column."""
    rows = csv.reader(io.StringIO(text, newline="\n"), delimiter=separator, strict=True)
    found = []
    try:
        header = [name.strip().lower() for name in next(rows, [])]
        if COLUMN not in header:
            return None
        for row in rows:
            if len(row) > len(header):  # else what stands behind a comma would be lost
                raise ValueError(
                    f"Line {rows.line_num} has {len(row)} cells for {len(header)} columns: put the prompt in quotes."
                )
            cells = [*row, *[""] * (len(header) - len(row))]
            found.append({name: _clean(cell) for name, cell in zip(header, cells, strict=True) if name})
    except csv.Error as error:
        raise ValueError(f"It isn't CSV near line {rows.line_num} ({error}): mend it.") from None
    return found


def _clean(text: str) -> str:
    return next(iter(cleaned([text])), "")
