"""The panel behind a reverse proxy that serves ComfyUI under a path, on a server with several users.

Frontends from 1.32.2 to 1.34 show an empty page there, whatever packs are installed: the one that ComfyUI 0.3.75
brings among them.
"""

import json
import urllib.request

import pytest

from scripts.browser import open_comfyui
from scripts.comfyui_server import ComfyServer
from scripts.setup import NEWEST_FRONTEND
from tests import reverse_proxy
from tests.browser.written_runs import write_run

RUN = "behind-a-path-12345678"
BROKEN = "() => [...document.querySelectorAll('[data-testid=mixgrpo-panel] img')].filter((i) => !i.naturalWidth).length"


def post(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


@pytest.fixture
def proxied(comfyui_dir, tmp_path):
    server = ComfyServer(tmp_path, frontend=NEWEST_FRONTEND)
    server.arguments.append("--multi-user")
    with server, reverse_proxy.serving(server.url) as url:
        write_run(server.output, RUN, "Behind a path")
        yield url


def test_panel_images_actions_and_news(proxied):
    user = post(f"{proxied}/users", {"username": "anna"})
    with open_comfyui(proxied, user=user) as page:
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.evaluate("() => { window.app.extensionManager.sidebarTab.activeSidebarTabId = 'mixgrpo'; }")
        box = page.locator("[data-testid=mixgrpo-panel]")
        box.locator(f".mixgrpo-row[data-run='{RUN}'] .mixgrpo-open").click()
        box.get_by_test_id("mixgrpo-state").wait_for()
        box.get_by_role("tab", name="Images").click()
        box.locator("img").first.wait_for()
        page.wait_for_function(f"() => ({BROKEN})() === 0")

        box.locator(".mixgrpo-more > summary").click()
        box.get_by_role("button", name="Rename", exact=True).click()
        dialog = page.get_by_role("dialog")
        dialog.locator("input").fill("renamed here")
        dialog.locator("input").press("Enter")
        box.get_by_text("renamed here").first.wait_for()
        post(f"{proxied}/mixgrpo/runs/{RUN}/about", {"name": "renamed elsewhere"})
        box.get_by_text("renamed elsewhere").first.wait_for()  # by the websocket

        links = box.locator("a[download]").evaluate_all("(links) => links.map((link) => link.href)")
        assert links and all(page.request.get(link).ok for link in links)
        ours = [url for url in [*asked, *links] if "mixgrpo" in url]
        assert ours and [url for url in ours if not url.startswith(f"{proxied}/")] == []
