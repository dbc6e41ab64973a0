"""The figures of a taste as a page."""

from __future__ import annotations


def of(sections: dict[str, dict]) -> str:
    return "\n"
