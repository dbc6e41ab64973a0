"""Sends many requests at once to servers of a scorer, and survives what networks do."""

from __future__ import annotations

import asyncio
import email.utils
import json
import random
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .. import go_on
from .hosts import Address, AllowedHosts, address

if TYPE_CHECKING:
    import aiohttp

Answer = TypeVar("Answer")
Json = Any

THREAD = "mixgrpo-remote"
MAX_REPLY = 1024 * 1024  # bytes; an honest reply has a few thousand
FIRST_WAIT, LONGEST_WAIT = 0.5, 20.0  # seconds before the second try, and at most before any
REST = 30.0  # seconds for which a failed server is left alone while another one works
LOOK = 0.5  # seconds between two looks whether the caller wants to stop
RETRIED = {408, 425, 429}
NO_ANSWER = "no answer before the deadline of {:g} s"


@dataclass(frozen=True)
class ClientOptions:
    """How a scorer at another host is asked."""

    # Requests at the same time, over all servers.
    concurrency: int = 8
    # Seconds that one request may take.
    timeout: float = 60.0
    # How often a request is repeated after a failure that may pass: 429, 5xx, timeout, connection.
    retries: int = 3
    # Seconds for all questions of a call together.
    deadline: float = 300.0

    def __post_init__(self) -> None:
        """Raises ValueError with one sentence for a value that can't work."""
        for name, lowest in (("concurrency", 1), ("retries", 0)):
            if getattr(self, name) < lowest:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least {lowest}.")
        for name in ("timeout", "deadline"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is {getattr(self, name)}: it must be a time above 0 seconds.")


class NoAnswer(Exception):
    """Why a request got no answer, as the end of a sentence."""


class _Passing(NoAnswer):
    """One that may have passed when it is tried again. wait: seconds that the server asks for, or None."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


@dataclass
class Server:
    """One server, and until when (time.monotonic()) nothing is sent to it."""

    address: Address
    key: str = field(default="", repr=False)
    # It has failed: left alone while another one works.
    rests_until: float = 0.0
    # It has asked for a wait (Retry-After): left alone in any case.
    closed_until: float = 0.0

    def free_at(self, now: float) -> float:
        return max(self.rests_until, self.closed_until, now)


def servers(
    who: str, urls: Sequence[str], allowed_hosts: Sequence[str] | None, key: str = "", path: Callable[[str], str] = str
) -> list[Server]:
    """The servers of some URLs. allowed_hosts: entries of AllowedHosts, None for any host. key: sent as a bearer token,
    only to hosts that the list names ("*" names none), or to all without a list. path: makes the path that is asked of
    the one that is written.

    Raises ValueError with one sentence for a URL or key that can't be used, PermissionError for a host that isn't
    allowed.
    """
    if key and not (key.isascii() and key.isprintable() and " " not in key):
        raise ValueError(f"The {who}'s key holds white space or letters that no key has: set it anew.")
    if not urls:
        raise ValueError(f"The {who} has no URL: write at least one, such as http://127.0.0.1:8000.")
    allowed = None if allowed_hosts is None else AllowedHosts(allowed_hosts)
    found = []
    for where in (address(url, who, path) for url in urls):
        if allowed is not None and not allowed.allowed(where):
            raise PermissionError(f"The {who}'s host {where.place} isn't on the list of allowed hosts.")
        found.append(Server(where, key if allowed is None or allowed.named(where) else ""))
    return found


@dataclass
class _Request(Generic[Answer]):
    body: Callable[[], dict]
    answer: Answer | None = None
    reason: str = ""


class Client(Generic[Answer]):
    """Posts JSON to servers in turn. May be used from any thread, by one at a time."""

    def __init__(
        self, who: str, servers: Sequence[Server], options: ClientOptions, read: Callable[[Any], Answer]
    ) -> None:
        """who: the servers' name in sentences. read: takes the answer out of a reply's JSON; raises ValueError with
        what the reply lacks ("holds no ..."), also LookupError or TypeError, for any other.
        """
        self.who, self.servers, self.options, self.read = who, list(servers), options, read
        self._turn = 0

    def ask(self, bodies: Sequence[Callable[[], dict]]) -> list[Answer | NoAnswer]:
        """The answers in the order of the bodies, or why there is none; nothing is raised for network trouble.

        bodies: make the request's JSON, when its turn has come. Takes no longer than the deadline. go_on() is asked
        now and then in the caller's thread; what it raises ends all requests.
        """
        requests, stop = [_Request[Answer](body) for body in bodies], threading.Event()
        # A loop and a thread of their own: the caller may sit inside a running loop.
        with ThreadPoolExecutor(1, THREAD) as thread:
            asked = thread.submit(asyncio.run, self._ask(requests, stop))
            try:
                while not wait([asked], LOOK).done:
                    go_on()
            finally:
                stop.set()
            asked.result()
        return [NoAnswer(each.reason) if each.answer is None else each.answer for each in requests]

    async def _ask(self, requests: Sequence[_Request[Answer]], stop: threading.Event) -> None:
        import aiohttp

        ends = time.monotonic() + self.options.deadline
        slots = asyncio.Semaphore(self.options.concurrency)
        # No proxy of the environment (trust_env), no cookies, nothing unpacked: what a server sends stays small.
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=self.options.timeout),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        ) as session:
            tasks = [asyncio.create_task(self._settle(session, slots, request, ends)) for request in requests]
            if not tasks:
                return
            late = set(tasks)
            while late and not stop.is_set() and (left := ends - time.monotonic()) > 0:
                _, late = await asyncio.wait(late, timeout=min(LOOK, left))
            for task in late:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for task, request, result in zip(tasks, requests, results, strict=True):
            if task in late:
                before = f"{request.reason}; then " if request.reason else ""
                request.reason = before + NO_ANSWER.format(self.options.deadline)
            elif result is not None:
                raise result

    async def _settle(
        self, session: aiohttp.ClientSession, slots: asyncio.Semaphore, request: _Request[Answer], ends: float
    ) -> None:
        """Tries until there is an answer, or it makes no sense any more."""
        body = b""

        async def send() -> Answer:
            nonlocal body
            body = body or json.dumps(await asyncio.to_thread(request.body)).encode()
            return await self._try(session, body)

        for attempt in range(self.options.retries + 1):
            wait = _backoff(attempt)
            if time.monotonic() + wait >= ends:
                request.reason += f"; no time for another try before the deadline of {self.options.deadline:g} s"
                return
            await asyncio.sleep(wait)
            try:
                request.answer = await self._when_open(slots, ends, send)
                return
            except _Passing as error:
                request.reason = f"{error}, {attempt + 1} tries" if attempt else str(error)
            except NoAnswer as error:
                request.reason = str(error)
                return

    async def _when_open(self, slots: asyncio.Semaphore, ends: float, send: Callable[[], Awaitable[Answer]]) -> Answer:
        """Sends once there is a free slot and a server that hasn't asked for a wait."""
        while True:
            async with slots:
                wait = self._closed()
                if not wait:
                    return await send()
            if time.monotonic() + wait >= ends:
                raise NoAnswer(f"the {self.who} asks for a wait beyond the deadline of {self.options.deadline:g} s")
            await asyncio.sleep(wait)

    def _closed(self) -> float:
        """Seconds that the server to be asked next wants to be left alone."""
        now = time.monotonic()
        return max(0.0, min(self.servers, key=lambda server: server.free_at(now)).closed_until - now)

    def _next(self) -> Server:
        """The servers in turn, without those that are left alone; when all are, the one that comes back first."""
        now = time.monotonic()
        turns = [self.servers[(self._turn + i) % len(self.servers)] for i in range(len(self.servers))]
        server = min(turns, key=lambda server: server.free_at(now))
        self._turn = self.servers.index(server) + 1
        return server

    async def _try(self, session: aiohttp.ClientSession, body: bytes) -> Answer:
        server = self._next()
        try:
            answer = await self._post(session, server, body)
        except _Passing as error:
            now = time.monotonic()
            server.rests_until = now + REST
            if error.wait is not None:
                server.rests_until = server.closed_until = now + error.wait
            raise
        server.rests_until = 0.0
        return answer

    async def _post(self, session: aiohttp.ClientSession, server: Server, body: bytes) -> Answer:
        """One request. Raises NoAnswer, as _Passing where trying again may help."""
        import aiohttp

        where = f"the {self.who} at {server.address.place}"
        headers = {"Content-Type": "application/json", "Accept": "application/json", "Accept-Encoding": "identity"}
        if server.key:
            headers["Authorization"] = f"Bearer {server.key}"
        try:
            async with session.post(server.address.url, data=body, headers=headers, allow_redirects=False) as reply:
                text = await _read(reply.content)
                status, wait = reply.status, _retry_after(reply.headers.get("Retry-After", ""))
        except asyncio.TimeoutError:
            raise _Passing(f"{where} took longer than {self.options.timeout:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            said = start_of(_without(server.key, str(error))) or type(error).__name__
            raise _Passing(f"{where} can't be reached ({said})") from None
        if text is None:
            raise NoAnswer(f"{where} sent more than {MAX_REPLY // 1024} kB")
        said = start_of(_without(server.key, text.decode(errors="replace")))
        if status in (401, 403):
            raise NoAnswer(
                f"{where} refuses the key ({status}): the server's owner sets it, and it is sent only to "
                "hosts that are named in the owner's list"
            )
        if status in RETRIED or status >= 500:
            raise _Passing(f"{where} answered {status}: '{said}'", wait)
        if 300 <= status < 400:
            raise NoAnswer(f"{where} points elsewhere ({status}), and is not followed")
        if status != 200:
            raise NoAnswer(f"{where} answered {status}: '{said}'")
        try:
            return self.read(_without(server.key, json.loads(text)))
        except (ValueError, RecursionError, LookupError, TypeError) as error:
            lacks = str(error) if type(error) is ValueError else "isn't what was asked for"
            raise NoAnswer(f"the reply of {where} {lacks}: '{said}'") from None


def _backoff(attempt: int) -> float:
    """Seconds before a try: doubled each time, and spread, so that many questions don't come back at once."""
    return min(FIRST_WAIT * 2 ** (attempt - 1), LONGEST_WAIT) * random.uniform(0.5, 1.0) if attempt else 0.0


async def _read(stream: aiohttp.StreamReader) -> bytes | None:
    """The whole reply; None when it is too long."""
    parts, size = [], 0
    async for part in stream.iter_chunked(64 * 1024):
        size += len(part)
        if size > MAX_REPLY:
            return None
        parts.append(part)
    return b"".join(parts)


def _without(key: str, said: Json) -> Json:
    """Texts that came from outside, without the key: servers may echo it."""
    if not key:
        return said
    if isinstance(said, str):
        return said.replace(key, "[key]")
    if isinstance(said, list):
        return [_without(key, each) for each in said]
    return {name: _without(key, each) for name, each in said.items()} if isinstance(said, dict) else said


def start_of(text: str, length: int = 120) -> str:
    """The beginning of a text for a message: one line, printable."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * length]).split())
    return line if len(line) <= length else line[:length].rstrip() + " ..."


def _retry_after(header: str) -> float | None:
    """Seconds of a Retry-After header, which says seconds or a date."""
    text = header.strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None
