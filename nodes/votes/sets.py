"""Where sets of votes live: `<output>/mixgrpo/votes/<name>/`."""

from __future__ import annotations

import re
from typing import Any

from ...mixgrpo_engine.taste.votes import VoteSet
from ..runs import paths

DEFAULT = "my-taste"
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
NAME_TOLD = "small letters, digits and hyphens, at most 40"

# Node types that learn from a set, or ask for it: their `votes` is the set's name.
LEARNERS = ("MixGRPO_RewardTaste", "MixGRPO_RewardYou")


def of_name(name: str) -> VoteSet:
    """The set of this name, existing or not. Raises ValueError with one sentence for what is no name."""
    if not NAME.fullmatch(name):
        raise ValueError(f"votes is '{name[:80]}': it must be a name of {NAME_TOLD}.")
    return VoteSet(paths.runs_directory() / "votes" / name)


def every() -> list[VoteSet]:
    """All sets, by name."""
    root = paths.runs_directory() / "votes"
    found = sorted(path.name for path in root.iterdir()) if root.is_dir() else []
    return [of_name(name) for name in found if NAME.fullmatch(name) and of_name(name).log.exists()]


def is_used(graph: dict[str, Any]) -> bool:
    """Whether a graph has a reward that learns from votes."""
    return any(node["class_type"] in LEARNERS for node in graph.values())


def of_graph(graph: dict[str, Any]) -> list[VoteSet]:
    """The sets that a graph's rewards learn from, as far as their names are typed in."""
    named = [node["inputs"].get("votes") for node in graph.values() if node["class_type"] in LEARNERS]
    typed_in = dict.fromkeys(name for name in named if isinstance(name, str))
    return [of_name(name) for name in typed_in if NAME.fullmatch(name)]
