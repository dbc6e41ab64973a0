"""Makes the pictures of docs/run_panel.md, docs/nodes.md and docs/taste.md: `python -m scripts.screenshots`, with a
training of the tiny model.

A real server, the newest frontend, two runs of shapes_alignment that differ in their learning rate.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

from scripts.browser import draw, open_comfyui
from scripts.comfyui_server import ROOT, ComfyServer
from scripts.make_template import read
from scripts.setup import NEWEST_FRONTEND

DOCS = ROOT / "docs"
RUNS = {"shapes": 1.0, "shapes, half the rate": 0.5}  # name -> times the template's learning rate
ITERATIONS = 120
VOTED = 12  # groups that are voted on in the picture of the votes
VOTED_ON = ("a red circle to the left of a blue square", "three green triangles", "a yellow square at the top")
OPEN_PANEL = "() => { window.app.extensionManager.sidebarTab.activeSidebarTabId = 'mixgrpo'; }"
OPEN_WORKFLOW = "async (workflow) => { await window.app.loadGraphData(workflow, true, true); }"
PALETTE = "async (name) => { await window.app.ui.settings.setSettingValueAsync('Comfy.ColorPalette', name); }"
CENTRE = """
(type) => {
  const { canvas, graph } = window.app;
  const node = graph._nodes.find((each) => each.type === type);
  canvas.ds.scale = 1;
  canvas.ds.offset = [520 - node.pos[0], 140 - node.pos[1]];
  canvas.setDirty(true, true);
}
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as base, ComfyServer(Path(base), frontend=NEWEST_FRONTEND) as server:
        runs = [train(server, name, factor) for name, factor in RUNS.items()]
        with open_comfyui(server.url, 1600, 1000) as page:
            draw(page, nodes2=True)
            page.evaluate(OPEN_WORKFLOW, read(ROOT / "workflows" / "shapes_alignment.json"))
            page.evaluate(OPEN_PANEL)
            shoot(page, "panel_list")
            page.locator(f"[data-run='{runs[0]}'] .mixgrpo-open").click()
            page.get_by_label("Full screen").click()
            shoot(page, "panel_dark")
            page.get_by_role("tab", name="Images").click()
            shoot(page, "panel_images")
            page.get_by_role("tab", name="Newest group").click()
            page.evaluate(PALETTE, "light")
            shoot(page, "panel_light")
            page.evaluate(PALETTE, "dark")
            page.get_by_label("All runs").click()
            for run in runs:
                page.locator(f"[data-run='{run}']").get_by_role("checkbox").check()
            page.get_by_role("button", name="Compare 2").click()
            shoot(page, "panel_compare")
        with open_comfyui(server.url, 390, 844) as page:
            page.evaluate(OPEN_PANEL)
            page.locator(f"[data-run='{runs[0]}'] .mixgrpo-open").click()
            page.get_by_label("Full screen").click()
            shoot(page, "panel_narrow")
        node_picture(server)
        votes_picture(server)
        with open_comfyui(server.url, 1600, 1000) as page:
            browse_templates(page)
            shoot(page, "templates")


def browse_templates(page) -> None:
    """Opens the frontend's template browser at this pack's templates."""
    page.evaluate("() => { window.app.extensionManager.command.execute('Comfy.BrowseTemplates'); }")
    page.get_by_role("dialog").get_by_text("comfyui-mixgrpo", exact=True).first.click()


def train(server: ComfyServer, name: str, factor: float) -> str:
    """Trains as the template does; the run's id."""
    prompt = read(ROOT / "workflows" / "api" / "shapes_alignment.json")
    (node,) = (key for key, each in prompt.items() if each["class_type"] == "MixGRPO_Train")
    (algorithm,) = (each for each in prompt.values() if each["class_type"] == "MixGRPO_Algorithm")
    algorithm["inputs"]["learning_rate"] *= factor
    prompt[node]["inputs"] |= {"run_name": name, "iterations": ITERATIONS, "evaluate_every": 20}
    return server.run(prompt, 1800)[node]["run_id"][0]


def votes_picture(server: ComfyServer) -> None:
    """Groups of the template your_taste, some of them voted on."""
    graph = read(ROOT / "workflows" / "api" / "your_taste.json")
    (group,) = (each["inputs"] for each in graph.values() if each["class_type"] == "MixGRPO_GroupSample")
    (algorithm,) = (each["inputs"] for each in graph.values() if each["class_type"] == "MixGRPO_Algorithm")
    (vote,) = (key for key, each in graph.items() if each["class_type"] == "MixGRPO_Vote")
    algorithm["group_size"] = 4
    for number in range(VOTED + 1):
        group["prompt"] = graph[vote]["inputs"]["prompt"] = VOTED_ON[number % len(VOTED_ON)]
        group["seed"] = number
        server.wait(server.submit(graph, partial_execution_targets=[vote]), 600)
        sheet = server.get("/mixgrpo/votes/my-taste")["next"][0]["id"]
        if number < VOTED:
            server.post("/mixgrpo/votes/my-taste/vote", {"sheet": sheet, "order": [[0], [1, 2], [3]]})
    with open_comfyui(server.url, 1280, 900) as page:
        page.evaluate(OPEN_PANEL)
        page.get_by_role("tab", name="Votes").click()
        page.locator("[data-set='my-taste'] button").click()
        page.get_by_label("Full screen").click()
        page.get_by_role("button", name="Image 1", exact=True).click()
        shoot(page, "panel_votes")


def node_picture(server: ComfyServer) -> None:
    """The Train node with its run, once its own workflow has been queued from the browser."""
    with open_comfyui(server.url, 1200, 900) as page:
        draw(page, nodes2=False)
        page.evaluate(OPEN_WORKFLOW, read(ROOT / "workflows" / "shapes_alignment.json"))
        page.evaluate(
            """([name, iterations]) => {
              const node = window.app.graph._nodes.find((each) => each.type === "MixGRPO_Train");
              const set = { run_name: name, iterations, evaluate_every: 20 };
              for (const widget of node.widgets) if (widget.name in set) widget.value = set[widget.name];
            }""",
            [next(iter(RUNS)), ITERATIONS],
        )
        with page.expect_response(lambda it: it.url.endswith("/prompt") and it.request.method == "POST") as answer:
            page.evaluate("() => window.app.queuePrompt(0)")
        server.wait(answer.value.json()["prompt_id"], 1800)
        page.evaluate(CENTRE, "MixGRPO_Train")
        shoot(page, "node")


def shoot(page, name: str) -> None:
    from PIL import Image

    page.wait_for_timeout(2500)  # images come, and what moves comes to rest
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    # 256 colours are enough for a page, and a third of the bytes.
    picture.quantize(256, kmeans=4).save(DOCS / f"{name}.png", optimize=True)
    print(f"docs/{name}.png")


if __name__ == "__main__":
    main()
