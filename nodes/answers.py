"""What the HTTP routes share: JSON answers, errors in one sentence, and requests that are looked at before use."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from ..mixgrpo_engine.records.events import finite


class Refused(Exception):
    """The answer is an error: its status and one sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def answering(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    @functools.wraps(handler)
    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except Refused as refused:
            return answer({"error": str(refused)}, refused.status)

    return handle


def whole(request: web.Request, name: str, default: int | None, most: int, what: str = "a whole number") -> int | None:
    text = request.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= most):
        raise Refused(400, f"{name} must be {what}, 0 to {most}.")
    return int(text)


def switch(request: web.Request, name: str, what: str) -> bool:
    """what: the action takes, when it is on."""
    if request.query.get(name, "0") not in ("0", "1"):
        raise Refused(400, f"{name} must be 1 for {what}, or 0.")
    return request.query.get(name) == "1"


async def body(request: web.Request) -> dict:
    """The JSON object that a request holds."""
    try:
        given = json.loads(await request.read())  # request.json() would believe a header's charset
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise Refused(400, "The request must hold a JSON object.")
    return given


def answer(value: dict, status: int = 200) -> web.Response:
    return web.json_response(finite(value), status=status)


async def large(value: dict) -> web.Response:
    """An answer without NaN, made in a thread and in pieces: json.dumps lets no other thread work meanwhile."""
    return web.Response(text=await asyncio.to_thread(_in_pieces, value), content_type="application/json")


def _in_pieces(value: Any, depth: int = 2) -> str:
    if depth and isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)}: {_in_pieces(each, depth - 1)}" for key, each in value.items()) + "}"
    if depth and isinstance(value, list):
        return "[" + ", ".join(_in_pieces(each, depth - 1) for each in value) + "]"
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(finite(value), allow_nan=False)
