"""Browsers ask for the pack's modules anew after an update.

ComfyUI says that of .js and .css files only. A browser keeps other files for a tenth of their age, and would mix old
modules with new ones.
"""

from __future__ import annotations

from typing import Any


# Whatever folder the pack stands in; other packs' modules lose nothing by it.
async def _ask_again(request: Any, response: Any) -> None:
    if request.path.startswith("/extensions/") and request.path.endswith(".mjs"):
        response.headers.setdefault("Cache-Control", "no-cache")


def add(app: Any) -> None:
    """app: ComfyUI's, before it starts to serve."""
    app.on_response_prepare.append(_ask_again)
