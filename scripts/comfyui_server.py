"""A real ComfyUI server of one's own: started headless on a free port with this pack, driven as an API client does.

Used by `make demo` and the tests.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 180


class ServerError(RuntimeError):
    """The server didn't start, or refused a request; the message says what it answered."""

    def __init__(self, message: str, code: int | None = None):
        """code: of a refusal, as HTTP has it."""
        super().__init__(message)
        self.code = code


class ServerProcess:
    """Starts `main.py --cpu` in a base folder of its own and ends the process that it started, nothing else."""

    def __init__(
        self,
        base: Path,
        packs: dict[str, Path] | None = None,
        environment: dict[str, str] | None = None,
        frontend: Path | None = None,
    ):
        """base: models, input, output and custom_nodes of this server.

        packs: name in custom_nodes -> folder, this pack alone by default. environment: changes to this process's.
        frontend: the folder of another frontend than the one that is installed.
        """
        self.base = Path(base).resolve()
        self.comfyui = Path(os.environ.get("COMFYUI_DIR") or ROOT / ".comfyui").resolve()
        self.log = self.base / "server.log"
        self._packs = packs or {"comfyui-mixgrpo": ROOT}
        self._environment = {**os.environ, **(environment or {})}
        self.arguments = ["--front-end-root", str(frontend)] if frontend else []
        self._process: subprocess.Popen | None = None
        self.port = 0

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def output(self) -> Path:
        return self.base / "output"

    def start(self) -> None:
        if not (self.comfyui / "main.py").exists():
            raise ServerError(f"There is no ComfyUI in {self.comfyui}: run `make setup`, or set COMFYUI_DIR.")
        for folder in ("custom_nodes", "input", "output", "models", "user"):
            (self.base / folder).mkdir(parents=True, exist_ok=True)
        for name, folder in self._packs.items():
            _link(self.base / "custom_nodes" / name, folder)
        self.port = self.port or _free_port()  # started again, it is found where it was
        try:
            self._launch()
            self._wait_until_ready()
        except BaseException:  # Ctrl-C above all: nobody else would end what was started here
            self.stop()
            raise

    def _launch(self) -> None:
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable, "-u", "main.py", "--listen", "127.0.0.1", "--port", str(self.port),
                    "--base-directory", str(self.base), "--database-url", "sqlite:///:memory:",
                    "--disable-api-nodes", "--disable-auto-launch", "--cpu", *self.arguments,
                ],
                cwd=self.comfyui, env=self._environment, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                # Ctrl-C reaches the terminal's whole group: without a group of its own the server would die first.
                start_new_session=True,
            )  # fmt: skip

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        if not self.alive:
            return
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Ends the server the hard way (SIGKILL)."""
        self._process.kill()
        self._process.wait()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                code = self._process.returncode
                raise ServerError(f"ComfyUI ended while starting (exit code {code}): see {self.log}.")
            try:
                urllib.request.urlopen(f"{self.url}/system_stats", timeout=10).close()
                return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.2)
        self.stop()
        raise ServerError(f"ComfyUI did not answer within {START_SECONDS} s: see {self.log}.")


class ComfyServer(ServerProcess):
    """A server, driven as an API client does it."""

    def post(self, path: str, body: dict | None = None) -> dict:
        return self._request(path, json.dumps(body or {}).encode())

    def get(self, path: str) -> dict:
        return self._request(path)

    def submit(self, prompt: dict, **extra) -> str:
        """POST /prompt; returns the prompt's id. Raises ServerError with ComfyUI's own words when it is refused."""
        answer = self.post("/prompt", {"prompt": prompt, "client_id": "mixgrpo", **extra})
        # ComfyUI runs the valid part of a graph and only mentions the rest: half a graph is nobody's wish here.
        if answer.get("node_errors"):
            raise ServerError(f"/prompt refused some nodes: {json.dumps(answer['node_errors'])}")
        return answer["prompt_id"]

    def history(self, prompt_id: str) -> dict | None:
        """The prompt's entry in /history, or None while it is queued or running."""
        return self.get(f"/history/{prompt_id}").get(prompt_id)

    def wait(self, prompt_id: str, seconds: float = 600, poll: float = 0.1) -> dict:
        """Waits for the prompt's end and returns its history entry; raises ServerError when it failed."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            entry = self.history(prompt_id)
            if entry:
                return check(entry)
            if not self.alive:
                raise ServerError(f"The server ended while a prompt was running: see {self.log}.")
            time.sleep(poll)
        raise ServerError(f"The prompt did not end within {seconds:.0f} s: see {self.log}.")

    def run(self, prompt: dict, seconds: float = 600) -> dict:
        """Submits, waits, returns the outputs: node id -> ui values."""
        return self.wait(self.submit(prompt), seconds)["outputs"]

    def view(self, image: dict) -> bytes:
        """The bytes of a file that an output named: {"filename", "subfolder", "type"}."""
        query = urllib.parse.urlencode({key: image.get(key, "") for key in ("filename", "subfolder", "type")})
        return self.view_url(f"/view?{query}")

    def view_url(self, path: str) -> bytes:
        """The bytes that the server gives for a path."""
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return answer.read()

    def _request(self, path: str, data: bytes | None = None) -> dict:
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            raise ServerError(f"{path} answered {error.code}: {text}", error.code) from None
        except OSError as error:
            raise ServerError(f"The server doesn't answer ({error}): see {self.log}.") from None


def check(entry: dict) -> dict:
    """A history entry as it is, or ServerError with the failing node's own message."""
    for kind, details in entry["status"]["messages"]:
        if kind == "execution_error":
            raise ServerError(f"{details['node_type']} (node {details['node_id']}): {details['exception_message']}")
        if kind == "execution_interrupted":
            raise ServerError(f"Interrupted at {details['node_type']} (node {details['node_id']}).")
    return entry


def _link(link: Path, folder: Path) -> None:
    if link.is_symlink() or link.exists():
        return
    try:
        link.symlink_to(folder, target_is_directory=True)
    except OSError:  # Windows without the right to make links
        subprocess.run(["cmd", "/c", "mklink", "/J", str(link), str(folder)], check=True, stdout=subprocess.DEVNULL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
