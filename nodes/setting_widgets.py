"""Widgets of the settings that mixgrpo_engine/config describes."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from comfy_api.latest import io

from ..mixgrpo_engine.config import SETTINGS
from ..mixgrpo_engine.settings import Setting

KINDS = {bool: io.Boolean, int: io.Int, float: io.Float, str: io.String}


def setting(group: str, field: str) -> Setting:
    """The setting `group.field` of TrainConfig."""
    return next(each for each in SETTINGS if (each.group, each.field) == (group, field))


def widget(about: Setting, advanced: bool | None = None, name: str = "", **options: Any) -> io.Input:
    """advanced, name and options (default, tooltip, bounds ...): in place of what the setting says."""
    kind = io.Combo if about.choices else KINDS[about.kind]
    known: dict[str, Any] = {"default": about.default, "tooltip": about.tooltip}
    if about.choices:
        known["options"] = list(about.choices)
    elif about.kind in (int, float):
        bounds = {"min": about.minimum, "max": about.maximum, "step": about.step}
        known |= {name: value for name, value in bounds.items() if value is not None}
    made = kind.Input(name or about.label, **{**known, **options})
    return folded(made) if (about.advanced if advanced is None else advanced) else made


def folded(made: io.Input) -> io.Input:
    """The input as one that a beginner needn't see: nodes show it once they are unfolded."""
    # Input takes no such argument in all versions.
    made.extra_dict["advanced"] = True
    return made


def folded_but(front: Collection[str], inputs: Iterable[io.Input]) -> list[io.Input]:
    """The inputs of a node, with all widgets folded but those of these names."""
    return [each if each.id in front or not isinstance(each, io.WidgetInput) else folded(each) for each in inputs]
