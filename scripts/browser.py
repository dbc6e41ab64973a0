"""ComfyUI's real frontend in a real headless Chromium."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from scripts.setup import chromium

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"]
READY = "() => window.app && window.app.graph && window.app.extensionManager && window.app.vueAppReady !== false"
# It opens the last session's workflow by itself, or an empty one: another that is loaded before would be mixed with it.
OPENED = "() => Boolean(window.app.extensionManager.workflow.activeWorkflow)"


@contextlib.contextmanager
def open_comfyui(url: str, width: int = 1600, height: int = 1000, user: str = "") -> Iterator:
    """Opens the frontend and yields playwright's page, with all it printed in page.messages: [(type, text)].

    user: who uses it, of a server with --multi-user.
    """
    from playwright.sync_api import sync_playwright

    path = chromium()
    if path is None:
        raise RuntimeError("No Chromium was found: install one (Debian: apt install chromium) or set CHROMIUM.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, headless=True, args=ARGUMENTS, env=dict(os.environ))
        page = browser.new_page(viewport={"width": width, "height": height})
        page.messages = []
        page.on("console", lambda message: page.messages.append((message.type, said(message))))
        page.on("pageerror", lambda error: page.messages.append(("pageerror", error.stack or str(error))))
        try:
            # A first visit opens the template browser over the graph.
            headers = {"comfy-user": user} if user else {}
            page.request.post(f"{url}/settings/Comfy.TutorialCompleted", data="true", headers=headers)
            if user:
                page.add_init_script(f"localStorage.setItem('Comfy.userId', '{user}')")
            page.goto(f"{url}/", wait_until="domcontentloaded")  # behind a path it needs the last slash
            wait_until_ready(page)
            yield page
        finally:
            browser.close()


def said(message) -> str:
    """A console message's text, and where it comes from if that is this pack."""
    url = message.location["url"]
    return f"{message.text} ({url})" if "mixgrpo" in url else message.text


def draw(page, nodes2: bool) -> None:
    """Has the nodes drawn as elements of the page (Nodes 2.0), or on the canvas; an open graph is lost by a change."""
    if page.evaluate("() => Boolean(window.app.ui.settings.getSettingValue('Comfy.VueNodes.Enabled'))") == nodes2:
        return
    page.evaluate("(on) => window.app.ui.settings.setSettingValueAsync('Comfy.VueNodes.Enabled', on)", nodes2)
    page.reload(wait_until="domcontentloaded")  # Nodes 2.0 leaves a question on the screen
    wait_until_ready(page)


def wait_until_ready(page) -> None:
    """Returns once the frontend has started, knows the server's nodes and has opened its first workflow."""
    page.wait_for_function(READY, timeout=120_000)
    page.wait_for_function(OPENED, timeout=120_000)
    page.wait_for_function("() => Object.keys(window.LiteGraph.registered_node_types).length > 100")
