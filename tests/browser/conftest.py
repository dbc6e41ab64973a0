"""A real server and its real frontend in a headless Chromium, shared by the tests of this folder."""

import json

import pytest

from scripts.browser import open_comfyui
from scripts.card_templates import SD35_FOLDER
from scripts.comfyui_server import ROOT, ComfyServer
from scripts.model_files import FILES
from tests.engine.rewards import tiny_published
from tests.fake_judge import chat, fake_judge
from tests.pictures import writing


@pytest.fixture(scope="session")
def judge():
    """A VLM's server that likes every picture; what it was asked is in `calls`."""

    async def respond(call):
        return chat("Alignment Score (1-5): 4")

    with fake_judge(respond) as judge:
        yield judge


@pytest.fixture(scope="session")
def server(comfyui_dir, tmp_path_factory, judge):
    """With what the templates need: the published weights' names, tiny; a picture; an allowed judge.

    Models that no test here loads are empty files: the browser looks at names only.
    """
    base = tmp_path_factory.mktemp("browser")
    tiny_published.write(base / "models" / "reward_models")
    for file in FILES:
        (base / "models" / file.folder).mkdir(exist_ok=True)
        (base / "models" / file.folder / file.name).touch()
    (base / "models" / "diffusers" / SD35_FOLDER).mkdir(parents=True)
    (base / "models" / "diffusers" / SD35_FOLDER / "model_index.json").touch()
    for folder in ("input", "user"):
        (base / folder).mkdir()
    writing("HELLO WORLD").save(base / "input" / "example.png")
    owner = {"judge_hosts": [f"127.0.0.1:{judge.port}"]}
    (base / "user" / "mixgrpo.json").write_text(json.dumps(owner))
    with ComfyServer(base) as server:
        yield server


@pytest.fixture(scope="module")
def page(server):
    """One browser a module: an open canvas draws all the time, also while tests of other folders need the cores."""
    with open_comfyui(server.url) as page:
        yield page


def templates():
    return sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))


@pytest.fixture(params=templates())
def template(request):
    """(name, UI workflow, API twin) of each template that the pack ships."""
    ui, api = (ROOT / "workflows" / kind / f"{request.param}.json" for kind in ("", "api"))
    return request.param, json.loads(ui.read_text(encoding="utf-8")), json.loads(api.read_text(encoding="utf-8"))
