"""Makes the UI template of an API workflow: `python -m scripts.make_template shapes_alignment`.

The API twin (workflows/api/NAME.json) is the one that is written by hand. The real frontend turns it into a graph;
places, titles' colours and the note come from workflows/layout/NAME.json. So the two can't drift apart: a test
compares what the template posts with the twin. Which published weights a node needs comes from the engine's catalog:
the frontend names those that are missing when somebody opens the template.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Collection
from pathlib import Path

from mixgrpo_engine.rewards import catalog
from scripts.browser import open_comfyui
from scripts.comfyui_server import ROOT, ComfyServer

PACK = "comfyui-mixgrpo"
MODEL_FOLDER = "reward_models"

BUILD = """
async ([name, prompt, layout, pack, models]) => {
  const app = window.app;
  await app.loadApiJson(prompt, name);
  for (const node of app.graph._nodes) {
    const place = layout.nodes[node.id];
    if (!place) throw new Error(`no place for node ${node.id} (${node.type}) in the layout`);
    node.pos = [place[0], place[1]];
    if (place.length > 2) node.size = [place[2], place[3]];
    node.title = prompt[node.id]._meta.title;
    node.properties = { ...node.properties, "Node name for S&R": node.type };
    if (node.type.startsWith("MixGRPO_")) Object.assign(node.properties, { cnr_id: pack, ver: layout.version });
    else Object.assign(node.properties, { cnr_id: "comfy-core", ver: layout.comfyui });
    if (models[node.id]) node.properties.models = models[node.id];
  }
  for (const note of layout.notes) {
    const node = window.LiteGraph.createNode("MarkdownNote");
    app.graph.add(node);
    node.title = note.title;
    node.pos = note.pos;
    node.size = note.size;
    node.widgets[0].value = note.text;
  }
  for (const group of layout.groups) {
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="workflows/api/NAME.json and workflows/layout/NAME.json")
    name = parser.parse_args().name
    prompt, layout = (read(ROOT / "workflows" / kind / f"{name}.json") for kind in ("api", "layout"))
    models = {key: found for key, node in prompt.items() if (found := published(node["inputs"].values()))}
    with tempfile.TemporaryDirectory() as base, ComfyServer(Path(base)) as server, open_comfyui(server.url) as page:
        graph = json.loads(page.evaluate(BUILD, [name, prompt, layout, PACK, models]))
    target = ROOT / "workflows" / f"{name}.json"
    target.write_text(json.dumps(graph, indent=1) + "\n", encoding="utf-8")
    print(f"{target.relative_to(ROOT)}: {len(graph['nodes'])} nodes, {len(graph['links'])} links")


def published(values: Collection) -> list[dict[str, str]]:
    """Of a node's values, those that are published weights, as the frontend wants them in `properties.models`.

    No text files: ComfyUI's list of models leaves them out, so they would be called missing for ever.
    """
    return [model(file) for file in catalog.FILES if file.name in values and not file.name.endswith(".txt")]


def model(file: catalog.KnownFile) -> dict[str, str]:
    """Name, address and folder of a published file; its hash where that is known."""
    url = f"{file.page}/resolve/{file.revision}/{file.path}"
    checked = {"hash": file.sha256, "hash_type": "SHA256"} if file.sha256 else {}
    return {"name": file.name, "url": url, "directory": MODEL_FOLDER, **checked}


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
