"""Queues an API prompt on a ComfyUI, shows its progress, and fetches the files it made. It needs aiohttp.

python client.py http://127.0.0.1:8188 workflow_api.json results/
"""

import asyncio
import json
import sys
import uuid
from pathlib import Path

import aiohttp

NOTHING = (aiohttp.ClientError, OSError, asyncio.TimeoutError)  # the server is away, maybe for a moment


async def listen(session, server, client):
    """Progress by websocket; what matters is asked for, so a socket that breaks costs nothing but the display."""
    while True:
        try:
            async with session.ws_connect(f"{server}/ws?clientId={client}", heartbeat=30) as socket:
                async for message in socket:
                    told = json.loads(message.data) if message.type == aiohttp.WSMsgType.TEXT else {}
                    if told.get("type") == "progress":
                        print(f"{told['data']['value']} of {told['data']['max']}", flush=True)
        except NOTHING:
            pass
        await asyncio.sleep(2)


async def ended(session, server, prompt_id):
    """The prompt's entry in the history, once it has one."""
    while True:
        try:
            async with session.get(f"{server}/queue") as first, session.get(f"{server}/history/{prompt_id}") as second:
                queue, history = await first.json(), await second.json()
            if prompt_id in history:
                return history[prompt_id]
            if prompt_id not in [entry[1] for name in ("queue_running", "queue_pending") for entry in queue[name]]:
                sys.exit("The server was restarted and has forgotten the prompt: queue it again, its run goes on.")
        except NOTHING:
            print("The server doesn't answer.", file=sys.stderr, flush=True)
        await asyncio.sleep(2)


async def main(server, workflow, folder):
    server, client, folder = server.rstrip("/"), str(uuid.uuid4()), Path(folder)
    body = {"prompt": json.loads(Path(workflow).read_text(encoding="utf-8")), "client_id": client}
    async with aiohttp.ClientSession() as session:
        listening = asyncio.create_task(listen(session, server, client))
        async with session.post(f"{server}/prompt", json=body) as answer:
            told = await answer.json()
        if told.get("error") or told.get("node_errors"):  # with 200, too: then the valid rest of the graph would run
            if told.get("prompt_id"):
                await session.post(f"{server}/queue", json={"delete": [told["prompt_id"]]})
            sys.exit(json.dumps(told, indent=1))
        entry = await ended(session, server, told["prompt_id"])
        listening.cancel()
        for kind, details in entry["status"]["messages"]:
            if kind in ("execution_error", "execution_interrupted"):
                sys.exit(f"{details['node_type']}: {details.get('exception_message', 'it was cancelled')}")
        folder.mkdir(parents=True, exist_ok=True)
        for output in entry["outputs"].values():
            print(*output.get("text", []), sep="\n")
            for file in (each for values in output.values() for each in values if isinstance(each, dict)):
                async with session.get(f"{server}/view", params=file, raise_for_status=True) as answer:
                    (folder / Path(file["filename"]).name).write_bytes(await answer.read())
                print(folder / Path(file["filename"]).name)


asyncio.run(main(*sys.argv[1:]))
