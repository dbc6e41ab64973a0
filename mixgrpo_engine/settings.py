"""What config/ says of each setting, and says only once.

Widgets, checks, the command line's help, docs/settings.md and the templates' values are made from it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

KINDS: dict[type, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
CHOICES_TOLD = 10  # in one sentence


@dataclass(frozen=True)
class Setting:
    """One field of one of config/'s groups."""

    group: str
    field: str
    default: Any
    tooltip: str  # what it does, its unit, what it costs
    label: str  # its name where the group isn't told, as in a node: unique among all settings
    minimum: float | None
    maximum: float | None
    step: float | None  # of a widget; of whole numbers the values themselves are multiples of it
    choices: tuple[str, ...]
    place: int | None  # among the widgets of MixGRPO Algorithm, from 1; None: not one of them
    changes_training: bool  # False: a run that goes on may have another value; it is no other run
    advanced: bool  # what a beginner needn't see

    @property
    def kind(self) -> type:
        return type(self.default)

    def of(self, config: Any) -> Any:
        """Its value in a TrainConfig."""
        return getattr(getattr(config, self.group), self.field)

    def put(self, config: Any, value: Any, name: str = "") -> None:
        """Sets it in a TrainConfig, once it has been checked as check() does."""
        setattr(getattr(config, self.group), self.field, self.check(value, name))

    def check(self, value: Any, name: str = "") -> Any:
        """check_value() with what is known of it. name: what the sentence calls it, if not label."""
        return check_value(
            value, name or self.label, self.kind, self.choices, self.minimum, self.maximum, self.step
        )  # fmt: skip

    def bounds(self) -> str:
        """Its bounds in words, "" without any."""
        return _bounds(self.minimum, self.maximum)


def check_value(
    value: Any,
    name: str,
    kind: type,
    choices: Sequence[str] = (),
    minimum: float | None = None,
    maximum: float | None = None,
    step: float | None = None,
) -> Any:
    """The value in its kind, one of KINDS: a whole number is a number, too. name: what the sentence calls it.

    Raises ValueError with one sentence for another kind, and for what is out of bounds or no choice.
    """
    if kind is float and type(value) is int:
        value = float(value)
    found: type = type(value)
    if found is not kind:
        raise ValueError(f"{name} is {_shown(value)}: it must be {KINDS[kind]}.")
    if choices and value not in choices:
        more = f" or another of the {len(choices)}" if len(choices) > CHOICES_TOLD else ""
        raise ValueError(f"{name} is {_shown(value)}: choose {', '.join(choices[:CHOICES_TOLD])}{more}.")
    # Written so that NaN is refused.
    if (minimum is not None and not value >= minimum) or (maximum is not None and not value <= maximum):
        raise ValueError(f"{name} is {value}: it must be {_bounds(minimum, maximum)}.")
    if kind is int and step and value % step:
        raise ValueError(f"{name} is {value}: it must be a multiple of {step}.")
    return value


def setting(
    default: Any,
    tooltip: str,
    *,
    label: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    step: float | None = None,
    choices: tuple[str, ...] = (),
    place: int | None = None,
    changes_training: bool = True,
    advanced: bool = False,
) -> Any:
    """A dataclass field that knows what Setting holds; label: the field's own name when empty."""
    about = {name: value for name, value in locals().items() if name != "default"}
    return dataclasses.field(default=default, metadata=about)


def settings_of(config: Any) -> tuple[Setting, ...]:
    """All settings of TrainConfig (the class, or one of it), group by group in their order."""
    found: list[Setting] = []
    for group in dataclasses.fields(config):
        assert dataclasses.is_dataclass(group.default_factory)
        for field in dataclasses.fields(group.default_factory):
            about = {**field.metadata, "label": field.metadata["label"] or field.name}
            found.append(Setting(group=group.name, field=field.name, default=field.default, **about))
    return tuple(found)


def _bounds(minimum: float | None, maximum: float | None) -> str:
    low, high = _bound(minimum), _bound(maximum)
    return f"{low} to {high}" if low and high else f"{low} or more" if low else f"at most {high}" if high else ""


def _bound(value: float | None) -> str:
    return "" if value is None else str(value) if isinstance(value, int) else f"{value:g}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
