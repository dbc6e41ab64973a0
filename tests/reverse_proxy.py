"""A reverse proxy that serves a server under a path, as nginx does with `location /comfy/` and `proxy_pass`."""

import asyncio
import threading
from contextlib import contextmanager

import aiohttp
from aiohttp import web

PATH = "/comfy"
HOP = {"connection", "content-length", "content-encoding", "keep-alive", "transfer-encoding", "upgrade"}


@contextmanager
def serving(server):
    """The address of `server` (http://host:port) behind the proxy, without a slash at its end."""
    loop, ready = asyncio.new_event_loop(), threading.Event()
    stop, found = asyncio.Event(), {}

    async def run():
        async with aiohttp.ClientSession(auto_decompress=False) as session:
            app = web.Application(client_max_size=2**30)
            app.router.add_route("*", PATH + "/{rest:.*}", lambda request: _pass_on(request, session, server))
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            found["port"] = site._server.sockets[0].getsockname()[1]
            ready.set()
            await stop.wait()
            await runner.cleanup()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    try:
        assert ready.wait(20), "The proxy didn't start."
        yield f"http://127.0.0.1:{found['port']}{PATH}"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


async def _pass_on(request, session, server):
    url = f"{server}/{request.raw_path[len(PATH) + 1 :]}"
    headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP}
    if request.headers.get("Upgrade", "").lower() == "websocket":
        return await _socket(request, session, url)
    async with session.request(
        request.method, url, headers=headers, data=await request.read(), allow_redirects=False
    ) as answer:
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in HOP - {"content-encoding"}}
        return web.Response(status=answer.status, headers=kept, body=await answer.read())


async def _socket(request, session, url):
    mine = web.WebSocketResponse(max_msg_size=0)
    await mine.prepare(request)
    async with session.ws_connect(url, max_msg_size=0) as theirs:

        async def carry(source, target):
            async for message in source:
                if message.type == aiohttp.WSMsgType.TEXT:
                    await target.send_str(message.data)
                elif message.type == aiohttp.WSMsgType.BINARY:
                    await target.send_bytes(message.data)
            await target.close()

        await asyncio.gather(carry(mine, theirs), carry(theirs, mine))
    return mine
