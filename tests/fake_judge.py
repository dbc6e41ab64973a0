"""A server of a judge or another scorer for the tests: answers as it is told, and remembers what it was asked."""

import asyncio
import base64
import contextlib
import io
import threading
import time
from dataclasses import dataclass

import numpy as np
from aiohttp import web
from PIL import Image


@dataclass
class Call:
    request: web.Request
    body: dict
    number: int  # 1 is the first
    time: float

    @property
    def text(self) -> str:
        return self.body["messages"][0]["content"][-1]["text"]

    @property
    def urls(self) -> list[str]:
        if "images" in self.body:
            return self.body["images"]
        return [part["image_url"]["url"] for part in self.body["messages"][0]["content"][:-1]]

    @property
    def images(self) -> list[Image.Image]:
        return [opened(url) for url in self.urls]

    @property
    def brightness(self) -> float:
        """0 to 255, of the last picture that came."""
        return brightness(self.images[-1])


def opened(url) -> Image.Image:
    """The picture of a data URL."""
    return Image.open(io.BytesIO(base64.b64decode(url.split(",", 1)[1])))


def brightness(image) -> float:
    return float(np.asarray(image).mean())


def chat(text) -> web.Response:
    """A chat completion with this answer."""
    return web.json_response({"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]})


def scored(*scores, **more) -> web.Response:
    """A scorer's reply."""
    return web.json_response({"scores": scores, **more})


class FakeJudge:
    """Runs in a thread of its own. respond: an async function Call -> response."""

    def __init__(self, respond, port=0):
        self.respond, self.calls = respond, []
        self.at_once = self.most_at_once = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fake judge")
        self._thread.start()
        self.port = self._run(self._start(port))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self):
        self._run(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    async def _start(self, port):
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", self._handle)
        # Not to wait for those that hang on purpose.
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        return site._server.sockets[0].getsockname()[1]

    async def _handle(self, request):
        call = Call(request, await request.json(), len(self.calls) + 1, time.monotonic())
        self.calls.append(call)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await self.respond(call)
        finally:
            self.at_once -= 1


@contextlib.contextmanager
def fake_judge(respond, port=0):
    server = FakeJudge(respond, port)
    try:
        yield server
    finally:
        server.close()
