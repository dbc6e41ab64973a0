"""Queues, follows, fetches: python client.py http://127.0.0.1:8188 workflow_api.json results/ (it needs aiohttp)."""

import asyncio
import contextlib
import json
import sys
import uuid
from pathlib import Path

import aiohttp


async def listen(http, url):
    """Progress by websocket: if it breaks, only the display is lost."""
    with contextlib.suppress(aiohttp.ClientError):
        async for message in await http.ws_connect(url, heartbeat=30):
            if message.type == aiohttp.WSMsgType.TEXT and (told := message.json())["type"] == "progress":
                print("{value} of {max}".format(**told["data"]), flush=True)


async def main(server, workflow, folder):
    server, client, graph = server.rstrip("/"), uuid.uuid4().hex, json.loads(Path(workflow).read_text("utf-8"))
    async with aiohttp.ClientSession() as http:
        _listening = asyncio.create_task(listen(http, f"{server}/ws?clientId={client}"))
        told = await (await http.post(f"{server}/prompt", json={"prompt": graph, "client_id": client})).json()
        prompt, history = told.get("prompt_id"), {}
        if told.get("error") or told.get("node_errors"):  # with 200, too: then the valid rest of the graph would run
            await http.post(f"{server}/queue", json={"delete": [prompt]})
            sys.exit(json.dumps(told, indent=1))
        while prompt not in history:
            await asyncio.sleep(2)
            with contextlib.suppress(aiohttp.ClientError, asyncio.TimeoutError):  # the server is away for a moment
                queue = await (await http.get(f"{server}/queue")).text()
                history = await (await http.get(f"{server}/history/{prompt}")).json()
                if prompt not in history and prompt not in queue:
                    sys.exit("The server was restarted and forgot the prompt: queue it again, its run goes on.")
        for kind, details in history[prompt]["status"]["messages"]:
            if kind in ("execution_error", "execution_interrupted"):
                sys.exit(f"{details['node_type']}: {details.get('exception_message', 'it was cancelled')}")
        (folder := Path(folder)).mkdir(parents=True, exist_ok=True)
        for each in sum((values for output in history[prompt]["outputs"].values() for values in output.values()), []):
            if isinstance(each, dict):  # a file
                answer = await http.get(f"{server}/view", params=each, raise_for_status=True)
                (folder / Path(each["filename"]).name).write_bytes(await answer.read())
            print(each)


asyncio.run(main(*sys.argv[1:]))
