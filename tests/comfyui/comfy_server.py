"""A real ComfyUI server process, and a client for it."""

import asyncio
import contextlib
import functools
import json
import threading
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

import aiohttp
import psutil

from scripts.comfyui_server import ROOT, ServerProcess

TEST_PACK = Path(__file__).resolve().parent / "pack"
OUR_FOLDER = "a folder with a name of its own"


class ComfyServer(ServerProcess):
    """`base` becomes ComfyUI's base directory, with this pack, the test pack and maybe others in its custom_nodes."""

    on_constant = staticmethod(lambda name: _no_constants(name))  # NaN and infinities, in answers

    def __init__(self, base, environment=None, packs=None):
        # One thread: the same sums in the same order, and two workers don't fight for the cores.
        environment = {"OMP_NUM_THREADS": "1", **(environment or {})}
        super().__init__(base, {OUR_FOLDER: ROOT, "test_pack": TEST_PACK, **(packs or {})}, environment)

    # --- HTTP ---

    def get(self, path):
        return self.request("GET", path)[1]

    def request(self, method, path, body=None, kind="application/json"):
        """(status, parsed JSON or text). body: bytes as they are, or what is to be JSON."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", data, {"Content-Type": kind}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                status, text = answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read().decode()
        try:
            return status, json.loads(text, parse_constant=self.on_constant)
        except json.JSONDecodeError:
            return status, text

    def queue(self, graph, only=None):
        """Queues an API prompt; its id. only: the output nodes to execute, all by default."""
        body = {"prompt": self._with_defaults(graph), "prompt_id": str(uuid.uuid4())}
        if only:
            body["partial_execution_targets"] = only
        status, answer = self.request("POST", "/prompt", body)
        assert status == 200, answer
        return answer["prompt_id"]

    def _with_defaults(self, graph):
        """The graph with every widget that it doesn't mention at its default, as the browser sends it."""
        filled = {}
        for node_id, node in graph.items():
            inputs = self.node_info(node["class_type"])["input"].get("required", {})
            defaults = {name: spec[1]["default"] for name, spec in inputs.items() if "default" in (*spec, {})[1]}
            filled[node_id] = {**node, "inputs": {**defaults, **node["inputs"]}}
        return filled

    @functools.cache  # noqa: B019 - a test's server lives as long as the tests
    def node_info(self, class_type):
        return self.get(f"/object_info/{class_type}")[class_type]

    def history(self, prompt_id):
        return self.get(f"/history/{prompt_id}").get(prompt_id)

    def result(self, prompt_id, seconds=240):
        """The prompt's history entry, once it has ended."""
        return self.wait(lambda: self.history(prompt_id), f"prompt {prompt_id}", seconds)

    def outputs(self, graph, seconds=240):
        """Queues a prompt that must succeed; its outputs by node id."""
        entry = self.result(self.queue(graph), seconds)
        assert entry["status"]["status_str"] == "success", entry["status"]["messages"]
        return entry["outputs"]

    def error(self, graph, seconds=240, only=None):
        """Queues a prompt that must fail; its execution_error."""
        entry = self.result(self.queue(graph, only), seconds)
        assert entry["status"]["status_str"] == "error", entry["outputs"]
        return next(data for event, data in entry["status"]["messages"] if event == "execution_error")

    def wait(self, look, what, seconds=120):
        """The first true value of look()."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if value := look():
                return value
            time.sleep(0.1)
        raise AssertionError(f"Waited {seconds} s in vain for {what}. The server's log ends:\n{self._log_end()}")

    @contextlib.contextmanager
    def socket(self):
        """An open websocket of client "test"; gives a function (run id, event) -> its messages of that name so far."""
        received, loop = [], asyncio.new_event_loop()

        async def listen(connected):
            url = f"http://127.0.0.1:{self.port}/ws?clientId=test"
            async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
                connected.set()
                async for message in socket:
                    if message.type == aiohttp.WSMsgType.TEXT:
                        received.append(json.loads(message.data, parse_constant=_no_constants))

        connected = threading.Event()
        task = loop.create_task(listen(connected))
        thread = threading.Thread(target=lambda: loop.run_until_complete(asyncio.gather(task, return_exceptions=True)))
        thread.start()
        try:
            assert connected.wait(20), "The websocket didn't open."
            yield lambda run_id, event="mixgrpo.progress": [
                m["data"] for m in received if m["type"] == event and m["data"]["run_id"] == run_id
            ]
        finally:
            loop.call_soon_threadsafe(task.cancel)
            thread.join()
            loop.close()

    # --- runs ---

    def run(self, run_id):
        return self.get(f"/mixgrpo/runs/{run_id}")

    def wait_for_state(self, run_id, *states, seconds=120):
        return self.wait(lambda: (r := self.run(run_id))["state"] in states and r, f"{run_id} to be {states}", seconds)

    def wait_for_iteration(self, run_id, iteration, seconds=120):
        return self.wait(
            lambda: (r := self.run(run_id)).get("iteration", 0) >= iteration and r, f"iteration of {run_id}", seconds
        )

    def start_run(self, graph):
        """Queues a detached Train node named "train"; its run id."""
        graph["train"]["inputs"]["mode"] = "detached"
        return self.run_id(self.outputs(graph, 30))

    def run_id(self, outputs):
        """The run that a Train node's outputs speak of."""
        return outputs["train"]["text"][0].split()[1].rstrip(":")

    def end_all_runs(self):
        """No worker outlives the tests."""
        for run in self.get("/mixgrpo/runs")["runs"] if self.alive else []:
            if run["state"] in ("queued", "waiting", "running"):
                self.request("POST", f"/mixgrpo/runs/{run['run_id']}/cancel")
                self.wait_for_state(run["run_id"], "cancelled", "finished", "failed", "dead")

    def folder(self, run_id):
        return self.output / "mixgrpo" / run_id

    def lora(self, run_id):
        return self.output / "loras" / "mixgrpo" / f"{run_id}.safetensors"

    def events(self, run_id):
        return self.get(f"/mixgrpo/runs/{run_id}/events")["events"]

    def kill_worker(self, run_id):
        """kill -9: no last word."""
        psutil.Process(self.run(run_id)["pid"]).kill()

    def traces(self):
        """(node, pid) of everything that the test pack's loaders have done."""
        file = self.output / "loaded.txt"
        return [tuple(line.split()) for line in file.read_text().splitlines()] if file.exists() else []

    def _log_end(self):
        return self.log.read_text(errors="replace")[-2000:]


def _no_constants(name):
    raise AssertionError(f"The server sent {name}, which browsers can't parse.")
