"""HTTP routes to vote through, for the panel and for scripts; docs/taste.md lists them."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Awaitable, Callable
from typing import Any
from zipfile import ZIP_STORED, ZipFile

from aiohttp import web

from ...mixgrpo_engine.records import disk, files
from ...mixgrpo_engine.records.run_folder import RunFolder
from ...mixgrpo_engine.rewards.taste import TasteReward
from ...mixgrpo_engine.taste.features import PictureStatistics
from ...mixgrpo_engine.taste.preference import Preference, in_words
from ...mixgrpo_engine.taste.votes import Sheet, VoteSet
from ..answers import Refused, answer, answering, body, switch
from ..runs import gallery, liveness, overview, stored
from . import news, pictures, sets

ROOT = "/mixgrpo/votes"
NEXT = 5  # pending sheets that are told, so that a browser can fetch the images ahead
PAIRS = "pairs", "two images at a time, those that are hardest to tell apart"

_learning = threading.Lock()  # a set's learned taste is kept, and requests come in several threads


def add(routes: web.RouteTableDef) -> None:
    routes.get(ROOT)(answering(_list))
    for method, path, handler in (
        ("GET", "", _show),
        ("GET", "/zip", _zip),
        ("POST", "/vote", _vote),
        ("POST", "/undo", _undo),
        ("POST", "/add", _add),
        ("DELETE", "", _delete),
    ):
        routes.route(method, f"{ROOT}/{{name:[^/]+}}{path}")(answering(_with_set(handler)))


async def _list(_request: web.Request) -> web.Response:
    return answer({"sets": await asyncio.to_thread(lambda: [summary(each) for each in sets.every()])})


async def _show(request: web.Request, votes: VoteSet) -> web.Response:
    return answer(await asyncio.to_thread(_told, votes, switch(request, *PAIRS)))


async def _vote(request: web.Request, votes: VoteSet) -> web.Response:
    given = await body(request)
    sheet, skip = given.get("sheet"), given.get("skip", False)
    if not isinstance(sheet, str) or not isinstance(skip, bool) or skip == ("order" in given):
        raise Refused(400, 'The request must hold "sheet", its id, and either "order" or "skip": true.')
    if skip:
        await asyncio.to_thread(votes.skip, sheet)
    else:
        await asyncio.to_thread(votes.vote, sheet, given["order"])
    return await _changed(request, votes)


async def _undo(request: web.Request, votes: VoteSet) -> web.Response:
    return await _changed(request, votes, undone=await asyncio.to_thread(votes.undo))


async def _add(request: web.Request, votes: VoteSet) -> web.Response:
    given = await body(request)
    if isinstance(given.get("run_id"), str):
        if type(iteration := given.get("iteration")) not in (int, type(None)):
            raise Refused(400, "iteration must be the whole number that the group was told with.")
        added = await asyncio.to_thread(pictures.add_group, votes, given["run_id"], iteration)
    elif isinstance(given.get("subfolder"), str) and isinstance(given.get("type", "output"), str):
        added = await asyncio.to_thread(pictures.add_folder, votes, given.get("type", "output"), given["subfolder"])
    else:
        raise Refused(400, 'The request must hold "run_id", or "subfolder" with "type" output or input.')
    return await _changed(request, votes, added=[sheet.id for sheet in added])


async def _zip(_request: web.Request, votes: VoteSet) -> web.StreamResponse:
    def make() -> Any:
        target = votes.folder / f"{votes.folder.name}.zip"
        with files.written_beside(target) as temporary, ZipFile(temporary, "w", ZIP_STORED) as archive:
            for path in (votes.log, votes.folder / "taste.safetensors", *sorted(votes.images.glob("*.webp"))):
                if path.is_file() and not path.is_symlink():
                    archive.write(path, path.relative_to(votes.folder))
        return target

    target = await asyncio.to_thread(make)
    return web.FileResponse(target, headers={"Content-Disposition": f'attachment; filename="{target.name}"'})


async def _delete(_request: web.Request, votes: VoteSet) -> web.Response:
    if run := await asyncio.to_thread(_user, votes):
        raise Refused(409, f"Run {run} is at work and learns from these votes: cancel it first.")
    await asyncio.to_thread(files.remove, votes.folder)
    _taste.cache_clear()
    news.tell(votes.folder.name)
    return answer({"name": votes.folder.name})


async def _changed(request: web.Request, votes: VoteSet, **more: Any) -> web.Response:
    news.tell(votes.folder.name)
    return answer({**await asyncio.to_thread(_told, votes, switch(request, *PAIRS), more.get("undone", "")), **more})


def summary(votes: VoteSet) -> dict[str, Any]:
    """What is told of a set in a list."""
    state, learned = votes.read(), _learned(votes)
    return {
        "name": votes.folder.name,
        "votes": len(state.answers),
        "pending": len(state.pending),
        "skipped": len(state.skipped),
        "damaged_lines": state.damaged,
        "runs": sorted(_at_work(state.pending)),  # they wait for an answer, or would like one
        "accuracy": learned.accuracy if learned else None,
        "words": in_words(len(state.answers), learned.accuracy) if learned else "No votes yet.",
    }


def _told(votes: VoteSet, in_pairs: bool, first: str = "") -> dict[str, Any]:
    """first: the sheet that is told before all others, if it has no answer."""
    state, learned = votes.read(), _learned(votes)
    asked = in_turn(state.pending, _at_work(state.pending), first)[:NEXT]
    return {
        **summary(votes),
        "next": [_sheet(votes, sheet, learned, in_pairs) for sheet in asked],
        "can_undo": bool(state.last),
    }


def in_turn(pending: list[Sheet], at_work: set[str], first: str = "") -> list[Sheet]:
    """The newest sheet of a run at work comes first: it is what the run waits for. The others come oldest first."""
    asked = [sheet for sheet in reversed(pending) if sheet.source in at_work]
    others = [sheet for sheet in pending if sheet.source not in at_work]
    return sorted([*asked, *others], key=lambda sheet: sheet.id != first)


def _at_work(pending: list[Sheet]) -> set[str]:
    """The runs of these sheets that are queued or at work."""
    folders = {name: overview.find(name) for name in {sheet.source for sheet in pending} if name}
    return {name for name, at in folders.items() if at and overview.summary(at)["state"] in liveness.ACTIVE}


def _user(votes: VoteSet) -> str:
    """A run that is queued or at work with a reward of this set; "" if there is none."""
    asking = _at_work(votes.read().pending)
    for told in overview.summaries():
        if told["state"] in liveness.ACTIVE:
            graph = stored.job(RunFolder(told["folder"])).get("graph", {})
            named = votes.folder in (each.folder for each in sets.of_graph(graph))
            # A name that comes by a wire isn't known here, but who has asked is.
            if named or (told["run_id"] in asking and sets.is_used(graph)):
                return told["run_id"]
    return ""


def _sheet(votes: VoteSet, sheet: Sheet, learned: Preference | None, in_pairs: bool) -> dict[str, Any]:
    places = list(range(len(sheet.images)))
    if in_pairs and len(places) > 2:
        places = _hardest(votes, sheet, learned)
    told = {"id": sheet.id, "prompt": sheet.prompt, "source": sheet.source, "time": sheet.time}
    images = [{"place": place, "view": gallery.view(votes.images / sheet.images[place])} for place in places]
    return {**told, "images": images}


def _hardest(votes: VoteSet, sheet: Sheet, learned: Preference | None) -> list[int]:
    """The two images of a sheet that the learned taste tells apart least."""
    if learned is None:
        return [0, 1]
    seen = [PictureStatistics().of(votes.picture(file)[None], [sheet.prompt]) for file in sheet.images]
    scores = [float(learned.score(features)) for features in seen]
    order = sorted(range(len(scores)), key=lambda place: scores[place])
    gaps = [scores[b] - scores[a] for a, b in zip(order, order[1:], strict=False)]
    at = gaps.index(min(gaps))
    return sorted(order[at : at + 2])


def _learned(votes: VoteSet) -> Preference | None:
    """What colours, places and sizes alone tell of the votes: a fit of moments, for the panel. None without a vote."""
    try:
        with _learning:
            return _taste(votes.folder.name).learned()
    except ValueError:
        return None


@functools.lru_cache(64)
def _taste(name: str) -> TasteReward:
    return TasteReward(sets.of_name(name), [PictureStatistics()], keep=False)


def _with_set(
    handler: Callable[[web.Request, VoteSet], Awaitable[web.StreamResponse]],
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    @functools.wraps(handler)
    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            votes = sets.of_name(request.match_info["name"])
        except ValueError as error:
            raise Refused(404, str(error)) from None
        if not votes.log.exists() and not request.path.endswith("/add"):
            raise Refused(404, f"There is no set of votes '{votes.folder.name}'.")
        switch(request, *PAIRS)  # refused before anything is changed
        try:
            return await handler(request, votes)
        except ValueError as error:
            raise Refused(409, str(error)) from None
        except OSError as error:
            told = disk.trouble(error, getattr(error, "filename", None) or "")
            raise Refused(507 if told and told.errno in disk.FULL else 500, str(told or error)) from None

    return handle
