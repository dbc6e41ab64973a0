"""Requests that nobody should make, to the routes of a real server: each has an answer in JSON, and none is a 500."""

import asyncio
import json
import random
from collections import Counter
from pathlib import Path
from urllib.parse import quote

import aiohttp
import torch
from yarl import URL

from mixgrpo_engine.taste.votes import VoteSet
from tests.comfyui import graphs
from tests.faults import hostile

STUB = Path(__file__).parent / "stub"
READ = ("", "/events", "/history", "/schedule", "/images", "/group", "/log", "/workflow", "/report")
CHANGE = ("/cancel", "/resume", "/save", "/continue", "/restart", "/about")
OF_VOTES = ("/vote", "/undo", "/add")
ROUTES = {
    "runs": [*(("GET", tail) for tail in READ * 3), *(("POST", tail) for tail in CHANGE), ("DELETE", "")],
    "votes": [("GET", ""), *(("POST", tail) for tail in OF_VOTES * 2), ("DELETE", "")],
}
SET = "a-set"  # of votes
FIELDS = {
    "/continue": ("iterations",), "/about": ("name", "note"), "/vote": ("sheet", "order", "skip"),
    "/add": ("run_id", "type", "subfolder"),
}  # fmt: skip
METHODS = ("GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS")
STARTS = ("/restart", "/resume")
QUERY = ("limit", "offset", "points", "after", "bytes", "loras", "state", "query", "workflow", "pairs", "x")
LEAST_RUNS, MOST_RUNS = 8, 30
ALLOWED = {200, 400, 403, 404, 405, 409, 413, 507}
CLIENTS = 8


def make(draw: random.Random, ids: list[str]) -> tuple[str, str, bytes | None, dict[str, str], bool]:
    """(method, path as it goes over the wire, body, headers, whether there is such a route)"""
    kind = draw.choice(("runs", "runs", "runs", "votes"))
    known = [SET] if kind == "votes" else ids
    name = draw.choice(known) if known and draw.random() < 0.7 else quote(_text(draw), safe="")
    routes = ROUTES[kind]
    method, tail = draw.choice(routes)
    if draw.random() < 0.15:
        method, tail = draw.choice(METHODS), draw.choice(READ + CHANGE + OF_VOTES)
    if method == "DELETE" and draw.random() < 0.9:
        method = "GET"
    if tail in STARTS and draw.random() < 0.9:  # ComfyUI then looks through all its memory, which takes a second
        name = "unknown"
    root = draw.choice(("", "/api")) + f"/mixgrpo/{kind}"
    is_list = draw.random() < 0.1
    path = root if is_list else f"{root}/{name}{tail}"
    is_route = method == "GET" if is_list else (method, tail) in routes and name not in ("", ".", "..")
    query = "&".join(f"{draw.choice(QUERY)}={_query(draw)}" for _ in range(draw.choice((0, 0, 0, 1, 1, 2, 3))))
    return method, f"{path}?{query}" if query else path, _body(draw, method, tail), _headers(draw), is_route


def _text(draw: random.Random) -> str:
    """aiohttp takes 8,000 characters in all."""
    return draw.choice(hostile.TEXTS)[:400].encode("utf-8", "replace").decode()


def _query(draw: random.Random) -> str:
    return str(draw.choice((0, 1, 5, 1000, 10**6))) if draw.random() < 0.5 else quote(_text(draw), safe="")


def _body(draw: random.Random, method: str, tail: str) -> bytes | None:
    if method in ("GET", "HEAD", "OPTIONS") or draw.random() < 0.2:
        return None
    if draw.random() < 0.1:
        return draw.choice((b"", b"{", b"\xff\xfe", b"[" * 50_000, draw.randbytes(200), b'{"iterations": 1e999}'))
    known = FIELDS.get(tail, ("a",))
    given = {name: hostile.value(draw) for name in draw.sample(known, draw.randint(1, len(known)))}
    return json.dumps(given if draw.random() < 0.8 else hostile.value(draw)).encode()


def _headers(draw: random.Random) -> dict[str, str]:
    kinds = ("application/json", "application/json", "text/plain", "multipart/form-data", "application/json; charset=x")
    return {"Content-Type": draw.choice(kinds)}


def complaint(status: int, text: str, is_route: bool) -> str:
    """What is wrong with an answer, "" when nothing is. What isn't a route is answered by ComfyUI."""
    if status not in ALLOWED:
        return f"it is a {status}"
    if "Traceback" in text:
        return "it holds a traceback"
    if not is_route or text.startswith("<!doctype html>"):
        return ""
    try:
        told = json.loads(text, parse_constant=_none)
    except ValueError as error:
        return f"it isn't JSON ({error})"
    if status >= 400 and not (isinstance(told, dict) and isinstance(told.get("error"), str) and told["error"]):
        return "it names no error"
    return ""


def _none(name: str) -> object:
    raise ValueError(f"{name}, which browsers can't parse")


async def ask(running, count: int, draw: random.Random) -> Counter:
    """Makes so many requests, several at a time; the answers' statuses."""
    statuses, left, ids = Counter(), iter(range(count)), []

    async def client(session: aiohttp.ClientSession) -> None:
        for number in left:
            if number % 50 == 0:
                await renew(session)
            method, path, body, headers, is_route = make(draw, ids)
            url = URL(f"{running.url}{path}", encoded=True)
            async with session.request(method, url, data=body, headers=headers, allow_redirects=False) as answer:
                text = (await answer.read()).decode()
            if wrong := complaint(answer.status, text, is_route):
                raise AssertionError(
                    f"request {number}, {method} {path[:300]} {body!r:.300}: {wrong}: {answer.status} {text[:2000]}"
                )
            statuses[answer.status] += 1

    async def renew(session: aiohttp.ClientSession) -> None:
        """Which runs there are: a few of them always, and never more than so many."""
        async with session.get(f"{running.url}/mixgrpo/runs") as answer:
            runs = [run["run_id"] for run in (await answer.json())["runs"]]
        if 0 < len(runs) < LEAST_RUNS:
            await (await session.post(f"{running.url}/mixgrpo/runs/{runs[0]}/restart")).release()
        ids[:] = runs[:MOST_RUNS]
        for run_id in runs[MOST_RUNS:]:
            await (await session.delete(f"{running.url}/mixgrpo/runs/{run_id}?loras=1")).release()

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(60)) as session:
        await asyncio.gather(*(client(session) for _ in range(min(CLIENTS, count))))
    return statuses


def prepare(running) -> None:
    """Some runs to ask for, and a set of votes."""
    VoteSet(running.output / "mixgrpo" / "votes" / SET).add(torch.rand(2, 8, 8, 3), hostile.MARK)
    for number in range(LEAST_RUNS):
        running.start_run(graphs.train(f"{hostile.MARK} {number}", iterations=3, seed=number))


def fuzz(place: Path, count: int, seed: int):
    with hostile.server(place, {"stub": STUB}) as running:
        prepare(running)
        statuses = asyncio.run(ask(running, count, random.Random(seed)))
        assert running.alive and running.get("/mixgrpo/runs")["total"] >= 0
        hostile.require_quiet_log(running)
        hostile.require_nothing_outside(place, running)
    told = ", ".join(f"{number} x {status}" for status, number in sorted(statuses.items()))
    yield f"{count} requests (seed {seed}): {told}; no 500, no traceback, no file outside."
