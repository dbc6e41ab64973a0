"""Checks that nodes make themselves: ComfyUI doesn't look into every combo, and not at all into linked ones."""

from __future__ import annotations

from collections.abc import Sequence


def require_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raises ValueError with one sentence when the value of a combo isn't one of its choices."""
    if value not in choices:
        raise ValueError(f"{name} is '{str(value)[:80]}': it must be one of {', '.join(choices)}.")
