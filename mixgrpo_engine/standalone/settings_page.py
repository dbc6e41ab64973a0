"""docs/settings.md: all settings of a run, from config.py. Made by `python -m mixgrpo_engine settings`."""

from __future__ import annotations

import dataclasses

from ..config import SETTINGS, TrainConfig
from ..settings import KINDS, Setting

INTRODUCTION = """# Settings

Made by `python -m mixgrpo_engine settings > docs/settings.md` from `mixgrpo_engine/config/`.
How to add one: [Extending](extending.md#a-setting).

A run file names a setting by its group and its name: `"settings": {"rollout": {"steps": 25}}`. In ComfyUI the groups
rollout, window, loss and optimizer are **MixGRPO Algorithm**, adapter is **MixGRPO LoRA** and run is **MixGRPO Train**;
where a widget of Algorithm or Train has another name, it is told. A preset changes the defaults of some.

*Resumable* settings don't change what is trained: a run that was cancelled or killed goes on with a new value. Any
other change makes another run, but for more iterations: with a constant learning rate the run goes on to them, finished
or not, in ComfyUI and on the command line. *Advanced* ones can be left alone.
"""


def page() -> str:
    """The page as Markdown, a section for each group."""
    parts = [INTRODUCTION]
    for group in dataclasses.fields(TrainConfig):
        about = group.default_factory.__doc__ or ""
        parts.append(f"\n## {group.name}\n\n{about}\n")
        parts += [_entry(each) for each in SETTINGS if each.group == group.name]
    return "\n".join(parts)


def _entry(each: Setting) -> str:
    name = f"**{each.field}**" + f" (widget *{each.label}*)" * (each.label != each.field)
    values = ", ".join(each.choices) or " ".join(part for part in (KINDS[each.kind], each.bounds()) if part)
    marks = ["resumable"] * (not each.changes_training) + ["advanced"] * each.advanced
    default = str(each.default).lower() if each.kind is bool else str(each.default) or "empty"
    about = "; ".join([f"default {default}", values, *marks])
    return f"- {name}: {about}.\n  {each.tooltip}"
