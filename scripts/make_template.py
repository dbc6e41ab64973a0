"""Makes the UI templates of the API workflows: `python -m scripts.make_template shapes_alignment`; no name makes all.

The API twin (workflows/api/NAME.json) is the one that is written by hand, or by scripts.card_templates. The real
frontend turns it into a graph; how the nodes stand and the notes come from workflows/layout/NAME.json. So the two can't
drift apart: a test compares what the template posts with the twin. A setting that MixGRPO Algorithm or Train has got
since a twin was written is added to it with its default. Which published files a node needs comes from the engine's
catalog and scripts.model_files: the frontend names those that are missing when a template is opened. --picture
docs/graph.png makes the README's picture of the graph's first groups. workflows/NAME.jpg is scripts.thumbnails' work.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
from collections.abc import Collection
from pathlib import Path

import mixgrpo_engine
from mixgrpo_engine.config import SETTINGS, TrainConfig
from mixgrpo_engine.presets import PRESETS, preset
from mixgrpo_engine.rewards.files import catalog
from scripts import make_blueprint, template_layout
from scripts.browser import open_comfyui
from scripts.comfyui_server import ROOT, ComfyServer
from scripts.model_files import FILES, ModelFile

VERSIONS = {"comfyui-mixgrpo": mixgrpo_engine.__version__, "comfy-core": "0.3.75"}
MODEL_FOLDER = "reward_models"

# Puts an API prompt onto the canvas; says what its nodes will need room for.
OPEN = """
async ([name, prompt]) => {
  await window.app.loadApiJson(prompt, name);
  const needs = window.app.graph._nodes.map((node) => {
    const widgets = node.widgets ?? [];
    const slots = Math.max(node.inputs.filter((input) => !input.widget).length, node.outputs.length);
    const texts = widgets.filter((widget) => widget.type === "customtext").length;
    return [node.id, { type: node.type, slots, widgets: widgets.length, texts }];
  });
  return Object.fromEntries(needs);
}
"""
# Gives the nodes their places and names, and adds notes and groups.
BUILD = """
async ([prompt, places, versions, models]) => {
  const app = window.app;
  for (const node of app.graph._nodes) {
    const [x, y, width, height] = places.nodes[node.id];
    node.pos = [x, y];
    node.size = [width, height || node.computeSize()[1]];
    node.title = prompt[node.id]._meta.title;
    const pack = node.type.startsWith("MixGRPO_") ? "comfyui-mixgrpo" : "comfy-core";
    Object.assign(node.properties, { "Node name for S&R": node.type, cnr_id: pack, ver: versions[pack] });
    if (models[node.id]) node.properties.models = models[node.id];
    // Seeds stay as they are: what is compared begins with the same noise.
    for (const widget of node.widgets ?? []) if (widget.name === "control_after_generate") widget.value = "fixed";
  }
  for (const note of places.notes) {
    const node = window.LiteGraph.createNode("MarkdownNote");
    app.graph.add(node);
    node.title = note.title;
    node.pos = note.pos;
    node.size = note.size;
    node.widgets[0].value = note.text;
  }
  for (const group of places.groups) {
    const box = new window.LiteGraph.LGraphGroup(group.title);
    box.pos = [group.bounding[0], group.bounding[1]];
    box.size = [group.bounding[2], group.bounding[3]];
    if (group.color) box.color = group.color;
    app.graph.add(box);
  }
  // Through JSON: a value that is undefined must be absent in the file, not null.
  return JSON.stringify(app.graph.serialize());
}
"""


# Fits the first two groups into the window; gives their place on the page.
SHOW_GROUPS = """
async () => {
  const view = window.app.canvas.ds;
  const boxes = window.app.graph._groups.slice(0, 2).map((group) => group.boundingRect);
  const end = (axis) => (box) => box[axis] + box[axis + 2];
  const [left, top] = [0, 1].map((axis) => Math.min(...boxes.map((box) => box[axis])) - 20);
  const right = Math.max(...boxes.map(end(0))) + 20;
  // Groups leave room for what nodes may unfold.
  const nodes = window.app.graph._nodes.map((node) => node.boundingRect);
  const inside = nodes.filter((box) => left < box[0] && box[0] < right);
  const bottom = Math.max(...inside.map(end(1))) + 40;
  const size = { width: right - left, height: bottom - top };
  view.scale = 0.95 * Math.min(window.innerWidth / size.width, window.innerHeight / size.height);
  view.offset = [
    (window.innerWidth / view.scale - left - right) / 2,
    (window.innerHeight / view.scale - top - bottom) / 2,
  ];
  window.app.canvas.show_info = false;  // frames per second and the like
  window.app.canvas.setDirty(true, true);
  await new Promise((done) => setTimeout(done, 1500));
  return {
    x: (left + view.offset[0]) * view.scale,
    y: (top + view.offset[1]) * view.scale,
    width: size.width * view.scale,
    height: size.height * view.scale,
  };
}
"""
HIDE_ALL_ELSE = """
body * { visibility: hidden !important; }
#graph-canvas, .dom-widget, .dom-widget * { visibility: visible !important; }
"""
WINDOW = (2400, 1200)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="workflows/api/NAME.json and layout/NAME.json")
    parser.add_argument("--picture", type=Path, metavar="PNG", help="write a picture of the graph at the window's size")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as base,
        ComfyServer(Path(base)) as server,
        open_comfyui(server.url, *WINDOW) as page,
    ):
        for name in options.names or sorted(path.stem for path in (ROOT / "workflows" / "api").glob("*.json")):
            make(page, name, options.picture)
    make_blueprint.main()


def make(page, name: str, picture: Path | None) -> None:
    prompt, layout = (read(ROOT / "workflows" / kind / f"{name}.json") for kind in ("api", "layout"))
    complete(prompt)
    models = {key: found for key, node in prompt.items() if (found := published(node["inputs"].values()))}
    needs = page.evaluate(OPEN, [name, prompt])
    if left_out := prompt.keys() - {
        key for row in layout["rows"] for group in row for key in sum(group["columns"], [])
    }:
        raise SystemExit(f"workflows/layout/{name}.json has no place for the nodes {sorted(left_out)}.")
    places = template_layout.place(layout, needs)
    graph = json.loads(page.evaluate(BUILD, [prompt, places, VERSIONS, models]))
    del graph["id"]  # each canvas that opens it gives it one of its own, and finds its runs by it
    graph["extra"] |= {"ds": places["ds"], "mixgrpo_first_view": True}  # read by nodes/web/firstView.mjs
    if picture:
        # 256 colours are enough for a graph, and a third of the bytes.
        photograph(page).quantize(256, kmeans=4).save(picture, optimize=True)
    for path, content in ((f"api/{name}.json", prompt), (f"{name}.json", graph)):
        (ROOT / "workflows" / path).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"workflows/{name}.json: {len(graph['nodes'])} nodes, {len(graph['links'])} links")


def complete(prompt: dict[str, dict]) -> None:
    """Adds the settings that Algorithm and Train have got since, as a request without them means them."""
    for node in prompt.values():
        if node["class_type"] == "MixGRPO_Train":
            for each in SETTINGS:
                if each.group == "run":
                    node["inputs"].setdefault(each.label, each.default)
        if node["class_type"] == "MixGRPO_Algorithm":
            name = node["inputs"].get("preset", "custom")
            settings = preset(name) if name in PRESETS else TrainConfig()
            for each in SETTINGS:
                if each.place:
                    node["inputs"].setdefault(each.label, each.of(settings))


def published(values: Collection) -> list[dict[str, str]]:
    """Of a node's values, those that are published files, as the frontend wants them in `properties.models`.

    No text files: ComfyUI's list of models leaves them out, so they would be called missing for ever.
    """
    values = [value for value in values if isinstance(value, str)]
    weights = [file for file in catalog.FILES if file.name in values and not file.name.endswith(".txt")]
    return [described(file) for file in (*weights, *(file for file in FILES if file.name in values))]


def described(file: catalog.KnownFile | ModelFile) -> dict[str, str]:
    """Name, address and folder of a published file; its hash where that is known."""
    if isinstance(file, ModelFile):
        return {"name": file.name, "url": file.url, "directory": file.folder}
    url = f"{file.page}/resolve/{file.revision}/{file.path}"
    checked = {"hash": file.sha256, "hash_type": "SHA256"} if file.sha256 else {}
    return {"name": file.name, "url": url, "directory": MODEL_FOLDER, **checked}


def photograph(page):
    """The graph's first two groups, without the frontend's bars, as PIL's image: more can't be read in a page."""
    from PIL import Image

    page.add_style_tag(content=HIDE_ALL_ELSE)
    return Image.open(io.BytesIO(page.screenshot(clip=page.evaluate(SHOW_GROUPS)))).convert("RGB")


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
