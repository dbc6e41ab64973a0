"""A real server and its real frontend in a headless Chromium, shared by the tests of this folder."""

import json

import pytest

from scripts.browser import open_comfyui
from scripts.comfyui_server import ROOT, ComfyServer


@pytest.fixture(scope="session")
def server(comfyui_dir, tmp_path_factory):
    with ComfyServer(tmp_path_factory.mktemp("browser")) as server:
        yield server


@pytest.fixture(scope="session")
def page(server):
    with open_comfyui(server.url) as page:
        yield page


def templates():
    return sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))


@pytest.fixture(params=templates())
def template(request):
    """(name, UI workflow, API twin) of each template that the pack ships."""
    ui, api = (ROOT / "workflows" / kind / f"{request.param}.json" for kind in ("", "api"))
    return request.param, json.loads(ui.read_text(encoding="utf-8")), json.loads(api.read_text(encoding="utf-8"))
