"""HTTP routes over runs, all JSON:

GET  /mixgrpo/runs                       {"runs": [summary, newest first]}
GET  /mixgrpo/runs/{id}                  summary plus "config" and "prompts"
GET  /mixgrpo/runs/{id}/events?offset=0  {"events": [...], "offset": where to go on}
POST /mixgrpo/runs/{id}/cancel           asks the worker to stop; it keeps a checkpoint
POST /mixgrpo/runs/{id}/resume           goes on from the last checkpoint

Unknown or malformed ids answer 404, a wrong moment 409, a bad offset 400, unreadable files 500, each with
{"error": one sentence}.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable

from aiohttp import web

from ...mixgrpo_engine.records import events
from ...mixgrpo_engine.records.events import finite
from ...mixgrpo_engine.records.run_folder import RunFolder
from . import cancel, free_memory, liveness, overview, stored, submit

ROOT = "/mixgrpo/runs"


def add(routes: web.RouteTableDef) -> None:
    """Adds all routes to ComfyUI's table; ComfyUI serves them under /api as well."""
    routes.get(ROOT)(_list)
    for method, path, handler in (
        ("GET", "", _show),
        ("GET", "/events", _events),
        ("POST", "/cancel", _cancel),
        ("POST", "/resume", _resume),
    ):
        # The id may be anything here: a strict pattern in the route would answer 404 without JSON.
        routes.route(method, f"{ROOT}/{{run_id}}{path}")(_with_folder(handler))


async def _list(_request: web.Request) -> web.Response:
    return _json({"runs": await asyncio.to_thread(lambda: [*map(overview.summary, overview.all_runs())])})


async def _show(_request: web.Request, folder: RunFolder) -> web.Response:
    job = {} if liveness.damage(folder) else stored.job(folder)
    return _json({**overview.summary(folder), "config": job.get("config"), "prompts": job.get("prompts")})


async def _events(request: web.Request, folder: RunFolder) -> web.Response:
    offset = request.query.get("offset", "0")
    if not (offset.isascii() and offset.isdigit() and len(offset) < 19):
        return _error(400, "offset must be a number of bytes, 0 or more: take the one that the last answer gave.")
    size = folder.events.stat().st_size if folder.events.exists() else 0
    new, end = await asyncio.to_thread(events.read, folder.events, min(int(offset), size))
    return _json({"events": new, "offset": end, "state": liveness.state_of(folder)})


async def _cancel(_request: web.Request, folder: RunFolder) -> web.Response:
    if wrong := liveness.damage(folder):
        return _error(409, wrong)
    if not cancel.cancel(folder):
        return _error(409, f"Run {folder.name} is {liveness.state_of(folder)}: there is nothing to cancel.")
    return _json(overview.summary(folder))


async def _resume(_request: web.Request, folder: RunFolder) -> web.Response:
    try:
        submission = await asyncio.to_thread(submit.resume, folder)
    except (ValueError, TimeoutError) as error:
        return _error(409, str(error))
    if submission.action in ("started", "resumed"):
        free_memory.free_between_prompts()
    return _json({**overview.summary(folder), "action": submission.action})


def _with_folder(
    handler: Callable[[web.Request, RunFolder], Awaitable[web.Response]],
) -> Callable[[web.Request], Awaitable[web.Response]]:
    @functools.wraps(handler)
    async def handle(request: web.Request) -> web.Response:
        folder = overview.find(request.match_info["run_id"])
        if folder is None:
            return _error(404, f"There is no run '{request.match_info['run_id'][:80]}'.")
        try:
            return await handler(request, folder)
        except (OSError, ValueError, RecursionError) as error:
            # Files of the run that are damaged, or vanish meanwhile.
            return _error(500, f"Run {folder.name} can't be read: {error}")

    return handle


def _json(value: dict, status: int = 200) -> web.Response:
    return web.json_response(finite(value), status=status)


def _error(status: int, sentence: str) -> web.Response:
    return _json({"error": sentence}, status)
