"""HTTP routes over runs; docs/headless.md lists them.

All answers are JSON but the report's. Unknown or malformed ids answer 404, a wrong moment 409, a malformed request 400,
unreadable files 500, a full disk 507, each with {"error": one sentence}. Files are read, and processes looked at, in
threads.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from ...mixgrpo_engine.config import SETTINGS
from ...mixgrpo_engine.records import disk
from ...mixgrpo_engine.records.files import read_json
from ...mixgrpo_engine.records.run_folder import STATES, RunFolder
from ..answers import Refused, answer, answering, body, large, switch, whole
from . import (
    about,
    cancel,
    denoising,
    event_lines,
    free_memory,
    gallery,
    liveness,
    log_tail,
    news,
    overview,
    preset_differences,
    remove,
    report_page,
    save,
    stored,
    stored_prompts,
    submit,
)
from .history import HISTORIES, History

ROOT = "/mixgrpo/runs"
EVENT_BYTES = 4 * 2**20
MOST_POINTS = 10_000
MOST_PROMPTS = 1000
ITERATIONS = next(each for each in SETTINGS if (each.group, each.field) == ("run", "iterations"))


def add(routes: web.RouteTableDef) -> None:
    """Adds all routes to ComfyUI's table; ComfyUI serves them under /api as well."""
    routes.get(ROOT)(answering(_list))
    for method, path, handler in (
        ("GET", "", _show),
        ("GET", "/events", _events),
        ("GET", "/history", _history),
        ("GET", "/schedule", _schedule),
        ("GET", "/images", _images),
        ("GET", "/group", _group),
        ("GET", "/log", _log),
        ("GET", "/workflow", _workflow),
        ("GET", "/report", _report),
        ("POST", "/cancel", _cancel),
        ("POST", "/resume", _resume),
        ("POST", "/save", _save),
        ("POST", "/continue", _continue),
        ("POST", "/restart", _restart),
        ("POST", "/about", _about),
        ("DELETE", "", _delete),
    ):
        # The id may be anything here: a strict pattern in the route would answer 404 without JSON (aiohttp's own
        # excludes braces).
        routes.route(method, f"{ROOT}/{{run_id:[^/]+}}{path}")(answering(_with_folder(handler)))


# --- what there is ---


async def _list(request: web.Request) -> web.Response:
    limit = whole(request, "limit", None, 10**9)
    offset = whole(request, "offset", 0, 10**9) or 0
    states = {state for state in request.query.get("state", "").split(",") if state}
    possible = (*STATES, "dead", liveness.UNREADABLE)
    if wrong := states.difference(possible):
        raise Refused(400, f"state is '{sorted(wrong)[0][:40]}': choose of {', '.join(possible)}, separated by commas.")
    query, workflow_id, sweep_id = (request.query.get(name, "") for name in ("query", "workflow", "sweep"))
    return await large(await asyncio.to_thread(overview.page, limit, offset, query, states, workflow_id, sweep_id))


async def _show(_request: web.Request, folder: RunFolder) -> web.Response:
    def look() -> dict:
        summary = overview.summary(folder)
        job = {} if summary["state"] == liveness.UNREADABLE else stored.job(folder)
        told = {name: job.get(name) for name in ("config", "versions")}
        told["prompts"] = stored_prompts.first(folder, job, MOST_PROMPTS)
        return {**summary, **told, "preset_differences": preset_differences.told(job.get("config"))}

    return await large(await asyncio.to_thread(look))


async def _events(request: web.Request, folder: RunFolder) -> web.Response:
    offset = whole(request, "offset", 0, 10**18, "a number of bytes, best the one of the last answer") or 0

    def look() -> dict:
        start = min(offset, event_lines.size(folder.events))
        found, end, more = event_lines.read(folder.events, start, EVENT_BYTES)
        return {"events": found, "offset": end, "more": more, "state": liveness.state_of(folder)}

    return await large(await asyncio.to_thread(look))


async def _history(request: web.Request, folder: RunFolder) -> web.Response:
    points, after = whole(request, "points", 1000, MOST_POINTS), whole(request, "after", 0, 10**9) or 0

    def look() -> dict:
        told = HISTORIES.ask(folder, lambda history: history.told(points or MOST_POINTS, after))
        return {**told, "state": liveness.state_of(folder)}

    return await large(await asyncio.to_thread(look))


async def _schedule(_request: web.Request, folder: RunFolder) -> web.Response:
    def look() -> dict:
        event = HISTORIES.ask(folder, lambda history: history.schedule)
        if event is None:
            return {"sigmas": [], "windows": [], "starts": []}  # it is told when the training starts
        try:
            return denoising.told(event, stored.job(folder).get("config") or {})
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"its schedule is damaged ({error!r})") from None

    return answer(await asyncio.to_thread(look))


async def _images(_request: web.Request, folder: RunFolder) -> web.Response:
    found = await asyncio.to_thread(HISTORIES.ask, folder, gallery.samples)
    return await large({"samples": found})


async def _group(_request: web.Request, folder: RunFolder) -> web.Response:
    return answer(await asyncio.to_thread(gallery.group, folder))


async def _log(request: web.Request, folder: RunFolder) -> web.Response:
    most = whole(request, "bytes", 20_000, log_tail.MOST, "a number of bytes")
    return answer(await asyncio.to_thread(log_tail.read, folder.log, most or 0))


async def _workflow(_request: web.Request, folder: RunFolder) -> web.Response:
    def look() -> dict:
        try:
            told = read_json(folder.path / "workflow.json")
        except FileNotFoundError:
            told = {}
        found = {name: told.get(name) for name in ("workflow", "prompt")}
        return {name: value if isinstance(value, dict) else None for name, value in found.items()}

    return await large(await asyncio.to_thread(look))


async def _report(_request: web.Request, folder: RunFolder) -> web.Response:
    def look() -> str:
        def make(history: History) -> str:
            return report_page.make(folder, overview.summary(folder), stored.job(folder), history)

        return HISTORIES.ask(folder, make)

    return web.Response(
        body=(await asyncio.to_thread(look)).encode("utf-8", "replace"),  # prompts may hold half a surrogate pair
        content_type="text/html",
        charset="utf-8",
        headers={
            "Content-Disposition": f'attachment; filename="{folder.name}.html"',
            "Content-Security-Policy": report_page.POLICY,
        },
    )


# --- what can be done ---


async def _cancel(request: web.Request, folder: RunFolder) -> web.Response:
    whole_sweep = switch(request, "sweep", "all runs of the run's sweep, too")

    def stop() -> None:
        if wrong := liveness.damage(folder):
            raise ValueError(wrong)
        stopped = overview.sweep_of(folder) if whole_sweep else [folder]
        if not cancel.cancel_all(stopped):
            what = "has ended, and so has its sweep" if whole_sweep else f"is {liveness.state_of(folder)}"
            raise ValueError(f"Run {folder.name} {what}: there is nothing to cancel.")
        for each in stopped:
            news.tell(each.name)

    await _act(stop)
    return await _changed(folder)


async def _resume(_request: web.Request, folder: RunFolder) -> web.Response:
    return await _submitted(await _act(submit.resume, folder))


async def _continue(request: web.Request, folder: RunFolder) -> web.Response:
    given = await body(request)
    if given.keys() != {"iterations"}:
        raise Refused(400, 'The request must be a JSON object with "iterations", how many there are to be in all.')
    try:
        iterations = ITERATIONS.check(given["iterations"])
    except ValueError as error:
        raise Refused(400, str(error)) from None
    return await _submitted(await _act(submit.go_on, folder, iterations))


async def _restart(_request: web.Request, folder: RunFolder) -> web.Response:
    return await _submitted(await _act(submit.restart, folder))


async def _save(_request: web.Request, folder: RunFolder) -> web.Response:
    await _act(save.save, folder)
    return await _changed(folder)


async def _about(request: web.Request, folder: RunFolder) -> web.Response:
    try:
        given = about.check(await body(request))
    except ValueError as error:
        raise Refused(400, str(error)) from None
    await asyncio.to_thread(about.write, folder, given)
    return await _changed(folder)


async def _delete(request: web.Request, folder: RunFolder) -> web.Response:
    await _act(remove.remove, folder, switch(request, "loras", "the run's published LoRAs, too"))
    return answer({"run_id": folder.name})


async def _act(action: Callable[..., Any], *args: object) -> Any:
    """The action's answer. What it refuses is a matter of the moment."""
    try:
        return await asyncio.to_thread(action, *args)
    except (ValueError, TimeoutError) as error:
        raise Refused(409, str(error)) from None


async def _submitted(submission: submit.Submission) -> web.Response:
    if submission.action in ("started", "resumed"):
        free_memory.free_between_prompts()
    return await _changed(submission.folder, action=submission.action, note=submission.note)


async def _changed(folder: RunFolder, **more: str) -> web.Response:
    """The run's summary; the browsers are told, too."""
    news.tell(folder.name)
    return answer({**await asyncio.to_thread(overview.summary, folder), **more})


# --- requests and answers ---


def _with_folder(
    handler: Callable[[web.Request, RunFolder], Awaitable[web.Response]],
) -> Callable[[web.Request], Awaitable[web.Response]]:
    @functools.wraps(handler)
    async def handle(request: web.Request) -> web.Response:
        folder = overview.find(request.match_info["run_id"])
        if folder is None:
            raise _unknown(request.match_info["run_id"])
        try:
            return await handler(request, folder)
        except (OSError, ValueError, RecursionError) as error:
            if request.method != "GET" and (told := disk.trouble(error, getattr(error, "filename", None) or "")):
                raise Refused(507 if told.errno in disk.FULL else 409, str(told)) from None
            if not folder.job.exists():
                raise _unknown(folder.name) from None  # it was removed meanwhile
            # Files of the run that are damaged.
            raise Refused(500, f"Run {folder.name} can't be read: {error}") from None

    return handle


def _unknown(run_id: str) -> Refused:
    return Refused(404, f"There is no run '{run_id[:80]}'.")
