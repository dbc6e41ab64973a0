"""Values that nobody should send, and where files may appear that come of it."""

import contextlib
import random
from pathlib import Path

from tests.comfyui.comfy_server import ComfyServer

MARK = "mgfuzz"
"""In whatever could become a path: none with it may appear outside of ComfyUI's own folders."""

PATHS = [
    f"../{MARK}", f"../../../{MARK}", f"a/../../{MARK}", f"/{MARK}", f"/tmp/{MARK}", f"~/{MARK}", f"C:\\{MARK}",
    f"..\\..\\{MARK}", f"\\\\host\\{MARK}", f"%2e%2e%2f{MARK}", f"file:///tmp/{MARK}", f"{MARK}\0.png", "..", ".", "/",
    f"{MARK}/" * 40, f"%year%/{MARK}", f".{MARK}", "con", "nul.txt", f"{MARK}:stream",
]  # fmt: skip
TEXTS = [
    *PATHS, "", " ", "\n", "0", "-1", "1e999", "NaN", "null", "None", "\0", "\ud800", "\udcff", "x" * 300,
    "x" * 70_000, "<script>alert(1)</script>", "{0.__class__}", "%(x)s", "${7*7}", "\u202e", "\U0001f4a9",
    "\u0130I\u0307", "a\tb\r\nc", "http://169.254.169.254/", "http://127.0.0.1:1/", "http://[::1]:1", "gopher://x",
    "[" * 2000, '{"a": ' * 500, "(" * 500, "red\nred\nred", "\u00fcber", ", " * 3000, "(a:1e999)", "embedding:x",
    "[[1, 2], [3", "1,2,3", "true", "\x1b[31m",
]  # fmt: skip
NUMBERS = [
    0, 1, -1, 2, 3, 7, 0.0, -0.0, 0.5, 1e-300, 1e300, 2**31, 2**53 + 1, 2**63, 2**64, 2**70, -(2**70), float("nan"),
    float("inf"), -float("inf"),
]  # fmt: skip
OTHERS = [None, True, False, [], {}, [[]], [None], [1, 2, 3], {"a": 1}, ["x", 0], ["x", "y"], [0, 0], {"__value__": []}]


def value(draw: random.Random) -> object:
    kind = draw.random()
    if kind < 0.4:
        return draw.choice(TEXTS)
    if kind < 0.75:
        return draw.choice(NUMBERS)
    return draw.choice(OTHERS) if kind < 0.95 else [value(draw) for _ in range(draw.randrange(4))]


@contextlib.contextmanager
def server(place: Path, packs: dict[str, Path], environment: dict[str, str] | None = None):
    """A real server deep inside a folder, in which nothing else may appear."""
    running = ComfyServer(place / "a" / "b" / "c" / "comfyui", environment)
    running._packs.update(packs)
    running.on_constant = float  # ComfyUI's own answers quote what it was sent
    running.start()
    try:
        yield running
    finally:
        running.stop()


def require_nothing_outside(place: Path, running: ComfyServer) -> None:
    """Raises AssertionError naming files where none may be."""
    base = running.base
    homes = (Path("/"), Path("/tmp"), Path.home(), Path.cwd(), running.comfyui, running.comfyui.parent)
    found = [path for home in homes for path in home.glob(f"*{MARK}*")]
    everything = place.resolve().rglob("*")
    found += [path for path in everything if base not in (path, *path.parents) and path not in base.parents]
    known = ("output", "user", "temp", "custom_nodes", "server.log")
    found += [path for path in base.rglob("*") if path.is_file() and path.relative_to(base).parts[0] not in known]
    assert not found, f"Files where none may be: {', '.join(map(str, found[:10]))}"


def require_quiet_log(running: ComfyServer, begin: int = 0) -> None:
    """Raises AssertionError when the server's log tells of an error that nobody expected. begin: in bytes."""
    with open(running.log, "rb") as file:
        file.seek(begin)
        text = file.read().decode(errors="replace")
    for sign in ("Logging error", "Error handling request", "never retrieved", "Unhandled exception"):
        if (at := text.find(sign)) >= 0:
            raise AssertionError(f"The server's log says:\n{text[max(0, at - 500) : at + 3000]}")
