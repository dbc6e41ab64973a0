"""Where the nodes are found: in the node menu, all under one root, and by which words."""

from __future__ import annotations

import dataclasses
from typing import Any

from comfy_api.latest import io

CATEGORY = "MixGRPO"
REWARDS, SAMPLING, SCORING = (f"{CATEGORY}/{name}" for name in ("rewards", "sampling", "scoring"))


def found_by(*words: str) -> dict[str, Any]:
    """For io.Schema: what people type who don't know the node's name. Older versions of ComfyUI have no such field."""
    known = {field.name for field in dataclasses.fields(io.Schema)}
    return {"search_aliases": [*words]} if "search_aliases" in known else {}
