"""Real servers and their real frontends in a headless Chromium, shared by the tests of this folder.

Whatever asks for `server` or `page` runs with the frontend that the ComfyUI brings and with the newest one. With
`drawn` in the place of `page` the newest one draws with Nodes 2.0 and the other on the canvas, as most people have
them; all four pairs are for what differs between them (`tests.browser.modes.EVERYWHERE`). A test that one frontend is
enough for says `@pytest.mark.parametrize("frontend", ["bundled"], indirect=True)`.
"""

import contextlib
import json
from pathlib import Path

import pytest

from scripts.browser import draw, open_comfyui
from scripts.card_templates import SD35_FOLDER
from scripts.comfyui_server import ROOT, ComfyServer
from scripts.model_files import FILES
from scripts.setup import NEWEST_FRONTEND
from tests.engine.rewards import tiny_published
from tests.fake_judge import chat, fake_judge, scored
from tests.pictures import writing

FOLDER = Path(__file__).parent


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """A file's tests by frontend, then canvas, then template: each change opens a browser, or a page, or a graph."""
    places = {path: place for place, path in enumerate(dict.fromkeys(item.path for item in items))}

    def mode(item):
        given = item.callspec.params if hasattr(item, "callspec") else {}
        frontend = given.get("frontend", "")
        return places[item.path], frontend, given.get("nodes2", frontend == "newest"), given.get("template", "")

    items[:] = sorted(items, key=lambda item: mode(item) if FOLDER in item.path.parents else (places[item.path],))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """What the browser showed when a test failed: .cache/screenshots/<test>.png."""
    report = yield
    if report.when == "call" and report.failed and "browser" in item.funcargs:
        item.funcargs["browser"].screenshot(path=ROOT / ".cache" / "screenshots" / f"{item.name}.png")
    return report


@pytest.fixture(scope="session")
def judge():
    """A server of judges and of other scorers that likes every picture; what it was asked is in `calls`."""

    async def respond(call):
        if "images" in call.body:
            return scored(*range(len(call.body["images"])))
        lines = ("Alignment Score (1-5): 4", "Instruction Score: 6", "Preservation Score: 6", "Quality Score: 6")
        return chat("\n".join([*lines, "Image 1 is better."]))

    with fake_judge(respond) as judge:
        yield judge


@pytest.fixture(scope="module", params=["bundled", "newest"])
def frontend(request):
    """Which frontend is in use. Of a module's scope, so that a module's tests run with one first, then the other."""
    if request.param == "newest" and not NEWEST_FRONTEND.exists():
        pytest.fail(f"There is no frontend in {NEWEST_FRONTEND}: run `make setup`.")
    return request.param


@pytest.fixture(scope="session")
def servers(comfyui_dir, tmp_path_factory, judge):
    """Frontend -> its server, started by the first test that wants it."""
    running = {}
    with contextlib.ExitStack() as stack:

        def get(frontend):
            if frontend not in running:
                base = tmp_path_factory.mktemp(frontend)
                furnish(base, judge)
                folder = NEWEST_FRONTEND if frontend == "newest" else None
                running[frontend] = stack.enter_context(ComfyServer(base, frontend=folder))
            return running[frontend]

        yield get


@pytest.fixture(scope="module")
def server(servers, frontend):
    return servers(frontend)


def furnish(base, judge):
    """What the templates need: the published weights' names, tiny; a picture; an allowed judge.

    Models that no test here loads are empty files: the browser looks at names only.
    """
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


@pytest.fixture(scope="module")
def browser(server):
    """One browser a module: an open canvas draws all the time, also while tests of other folders need the cores."""
    with open_comfyui(server.url) as page:
        yield page


@pytest.fixture
def page(browser):
    """The page with nodes as the canvas draws them."""
    draw(browser, nodes2=False)
    return browser


@pytest.fixture(scope="module")
def nodes2(request, frontend):
    """Of a module's scope as `frontend` is: changing it loads the page again."""
    return getattr(request, "param", frontend == "newest")


@pytest.fixture
def drawn(browser, nodes2):
    """The page with nodes drawn in one of the two ways."""
    draw(browser, nodes2)
    return browser
