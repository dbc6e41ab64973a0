"""The browser's side as ComfyUI serves it."""

import urllib.request

import pytest


@pytest.mark.parametrize("frontend", ["bundled"], indirect=True)
@pytest.mark.parametrize("file", ["panel.js", "comfy.mjs", "panel/panel.mjs", "vendor/uPlot.mjs", "panel/panel.css"])
def test_browsers_ask_for_the_packs_files_anew(server, frontend, file):
    """Or they would mix an old version's modules with a new one's after an update."""
    with urllib.request.urlopen(f"{server.url}/extensions/comfyui-mixgrpo/{file}", timeout=60) as answer:
        assert answer.headers["Cache-Control"] == "no-cache"
