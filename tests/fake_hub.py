"""A Hugging Face hub on 127.0.0.1: what HF_ENDPOINT can name in a test."""

import asyncio
import hashlib
import threading

from aiohttp import web


class FakeHub:
    """Serves `files` ({"owner/name/path": bytes}) as the hub does: hash and size, and a redirect to another host.

    cut: bytes after which a connection ends, for every entry once (0: gives nothing at all). ranges: what was asked
    for. resumes: whether it honours Range. wrong: bytes served in place of the right ones. etag: stated in place of
    the right one.
    """

    def __init__(self, files):
        self.files, self.cut, self.ranges, self.resumes, self.wrong, self.etag = files, [], [], True, None, None
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self):
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def _serve(self):
        asyncio.set_event_loop(self._loop)
        application = web.Application()
        application.router.add_get("/{owner}/{name}/resolve/{revision}/{path:.+}", self._resolve)
        application.router.add_get("/store/{key:.+}", self._store)
        runner = web.AppRunner(application)
        self._loop.run_until_complete(runner.setup())
        self._loop.run_until_complete((site := web.TCPSite(runner, "127.0.0.1", 0)).start())
        self.port = site._server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()

    async def _resolve(self, request):
        key = "{owner}/{name}/{path}".format(**request.match_info)
        if key not in self.files:
            return web.Response(status=404, headers={"X-Error-Code": "EntryNotFound"})
        content = self.files[key]
        stated = self.etag or hashlib.sha256(content).hexdigest()
        headers = {"X-Linked-Etag": f'"{stated}"', "X-Linked-Size": str(len(content)), "X-Repo-Commit": "0" * 40}
        return web.Response(status=302, headers={**headers, "Location": f"http://localhost:{self.port}/store/{key}"})

    async def _store(self, request):
        content = self.wrong or self.files[request.match_info["key"]]
        start = 0
        self.ranges.append(request.headers.get("Range", ""))
        if self.resumes and self.ranges[-1]:
            start = int(self.ranges[-1].removeprefix("bytes=").rstrip("-"))
        answer = web.StreamResponse(status=206 if start else 200)
        answer.content_length = len(content) - start
        await answer.prepare(request)
        end = min(start + self.cut.pop(0), len(content)) if self.cut else len(content)
        await answer.write(content[start:end])
        if end < len(content):
            request.transport.close()
        return answer
