"""Has browsers ask whether a module of nodes/web has changed, as ComfyUI does for scripts (.js) but not for modules.

Else a script of today would import a module of before the last update, for days.
"""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from .comfy_types import PromptServer

WEB = Path(__file__).parent / "web"


def start_with(server: PromptServer) -> None:
    async def ask_again(request: web.Request, response: web.StreamResponse) -> None:
        if request.path.endswith(".mjs") and is_ours(request.path):
            response.headers.setdefault("Cache-Control", "no-cache")

    server.app.on_response_prepare.append(ask_again)


def is_ours(path: str) -> bool:
    """Whether it is /extensions/<this pack>/..., under whichever of its names ComfyUI serves it."""
    import nodes

    _, _, rest = path.partition("/extensions/")
    folder = nodes.EXTENSION_WEB_DIRS.get(rest.split("/", 1)[0])
    return folder is not None and Path(folder).resolve() == WEB.resolve()
