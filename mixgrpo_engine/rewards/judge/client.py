"""Asks OpenAI-compatible servers many things at once, and survives what networks do."""

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
from typing import TYPE_CHECKING

from .. import go_on
from .hosts import Address
from .questions import start_of

if TYPE_CHECKING:
    import aiohttp

MAX_REPLY = 1024 * 1024  # bytes; an honest reply has a few thousand
FIRST_WAIT, LONGEST_WAIT = 0.5, 20.0  # seconds before the second try, and at most before any
REST = 30.0  # seconds for which a failed server is left alone while another one works
LOOK = 0.5  # seconds between two looks whether the caller wants to stop
RETRIED = {408, 425, 429}
NO_ANSWER = "no answer before the deadline of {:g} s"


@dataclass(frozen=True)
class ClientOptions:
    """How a judge is asked."""

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
                raise ValueError(f"{name} of the judge is {getattr(self, name)}: it must be at least {lowest}.")
        for name in ("timeout", "deadline"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} of the judge is {getattr(self, name)}: it must be a time above 0 seconds.")


class JudgeError(Exception):
    """Why a question got no answer, as the end of a sentence."""


class _Passing(JudgeError):
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


@dataclass
class _Question:
    body: Callable[[], dict]
    answer: str | None = None
    reason: str = ""


class JudgeClient:
    """Sends chat requests to servers in turn. May be used from any thread, by one at a time."""

    def __init__(self, servers: Sequence[Server], options: ClientOptions) -> None:
        self.servers, self.options = list(servers), options
        self._turn = 0

    def ask(self, bodies: Sequence[Callable[[], dict]]) -> list[str | JudgeError]:
        """The answers' texts in the order of the bodies, or why there is none; nothing is raised for network trouble.

        bodies: make the request's JSON, when its turn has come. Takes no longer than the deadline. go_on() is asked
        now and then in the caller's thread; what it raises ends all requests.
        """
        questions, stop = [_Question(body) for body in bodies], threading.Event()
        # A loop and a thread of their own: the caller may sit inside a running loop.
        with ThreadPoolExecutor(1, "mixgrpo-judge") as thread:
            asked = thread.submit(asyncio.run, self._ask(questions, stop))
            try:
                while not wait([asked], LOOK).done:
                    go_on()
            finally:
                stop.set()
            asked.result()
        return [JudgeError(q.reason) if q.answer is None else q.answer for q in questions]

    async def _ask(self, questions: Sequence[_Question], stop: threading.Event) -> None:
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
            tasks = [asyncio.create_task(self._settle(session, slots, question, ends)) for question in questions]
            if not tasks:
                return
            late = set(tasks)
            while late and not stop.is_set() and (left := ends - time.monotonic()) > 0:
                _, late = await asyncio.wait(late, timeout=min(LOOK, left))
            for task in late:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for task, question, result in zip(tasks, questions, results, strict=True):
            if task in late:
                before = f"{question.reason}; then " if question.reason else ""
                question.reason = before + NO_ANSWER.format(self.options.deadline)
            elif result is not None:
                raise result

    async def _settle(
        self, session: aiohttp.ClientSession, slots: asyncio.Semaphore, question: _Question, ends: float
    ) -> None:
        """Tries until there is an answer, or it makes no sense any more."""
        body = b""

        async def send() -> str:
            nonlocal body
            body = body or json.dumps(await asyncio.to_thread(question.body)).encode()
            return await self._try(session, body)

        for attempt in range(self.options.retries + 1):
            wait = _backoff(attempt)
            if time.monotonic() + wait >= ends:
                question.reason += f"; no time for another try before the deadline of {self.options.deadline:g} s"
                return
            await asyncio.sleep(wait)
            try:
                question.answer = await self._when_open(slots, ends, send)
                return
            except _Passing as error:
                question.reason = f"{error}, {attempt + 1} tries" if attempt else str(error)
            except JudgeError as error:
                question.reason = str(error)
                return

    async def _when_open(self, slots: asyncio.Semaphore, ends: float, send: Callable[[], Awaitable[str]]) -> str:
        """Sends once there is a free slot and a server that hasn't asked for a wait."""
        while True:
            async with slots:
                wait = self._closed()
                if not wait:
                    return await send()
            if time.monotonic() + wait >= ends:
                raise JudgeError(f"the judge asks for a wait beyond the deadline of {self.options.deadline:g} s")
            await asyncio.sleep(wait)

    def _closed(self) -> float:
        """Seconds until the first server may be asked."""
        return max(0.0, min(server.closed_until for server in self.servers) - time.monotonic())

    def _next(self) -> Server:
        """The servers in turn, without those that are left alone; when all are, the one that comes back first."""
        now = time.monotonic()
        turns = [self.servers[(self._turn + i) % len(self.servers)] for i in range(len(self.servers))]
        server = min(turns, key=lambda server: max(server.rests_until, server.closed_until, now))
        self._turn = self.servers.index(server) + 1
        return server

    async def _try(self, session: aiohttp.ClientSession, body: bytes) -> str:
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

    async def _post(self, session: aiohttp.ClientSession, server: Server, body: bytes) -> str:
        """One request. Raises JudgeError, as _Passing where trying again may help."""
        import aiohttp

        place = server.address.place
        headers = {"Content-Type": "application/json", "Accept": "application/json", "Accept-Encoding": "identity"}
        if server.key:
            headers["Authorization"] = f"Bearer {server.key}"
        try:
            async with session.post(server.address.url, data=body, headers=headers, allow_redirects=False) as reply:
                text = await _read(reply.content)
                status, wait = reply.status, _retry_after(reply.headers.get("Retry-After", ""))
        except asyncio.TimeoutError:
            raise _Passing(f"the judge at {place} took longer than {self.options.timeout:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            said = start_of(_without(server.key, str(error))) or type(error).__name__
            raise _Passing(f"the judge at {place} can't be reached ({said})") from None
        if text is None:
            raise JudgeError(f"the judge at {place} sent more than {MAX_REPLY // 1024} kB")
        said = start_of(_without(server.key, text.decode(errors="replace")))
        if status in (401, 403):
            raise JudgeError(
                f"the judge at {place} refuses the key ({status}): the server's owner sets it, and it is sent only to "
                "hosts that are named in the owner's list"
            )
        if status in RETRIED or status >= 500:
            raise _Passing(f"the judge at {place} answered {status}: '{said}'", wait)
        if 300 <= status < 400:
            raise JudgeError(f"the judge at {place} points elsewhere ({status}), and is not followed")
        if status != 200:
            raise JudgeError(f"the judge at {place} answered {status}: '{said}'")
        content = _content(text)
        if content is None:
            raise JudgeError(f"the judge at {place} sent no chat answer: '{said}'")
        return _without(server.key, content)


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


def _content(reply: bytes) -> str | None:
    """The text of a chat completion; None for anything else."""
    try:
        content = json.loads(reply)["choices"][0]["message"]["content"]
    except (ValueError, RecursionError, LookupError, TypeError):
        return None
    return content if isinstance(content, str) and content.strip() else None


def _without(key: str, text: str) -> str:
    """A text that came from outside, without the key: servers may echo it."""
    return text.replace(key, "[key]") if key else text


def _retry_after(header: str) -> float | None:
    """Seconds of a Retry-After header, which says seconds or a date."""
    text = header.strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None
