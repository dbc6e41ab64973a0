"""Makes subgraphs/*.json from the templates, which frontends offer as blueprints: `python -m scripts.make_blueprint`.

A blueprint is some nodes of a template as one node: what came into them from outside becomes its inputs, some of their
widgets and outputs are shown on it. make_template makes them anew after the templates, so the two can't drift apart.
"""

from __future__ import annotations

import copy
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INPUTS, OUTPUTS = -10, -20  # ids of the frontend's own nodes at the two ends of a subgraph
WIDTH, END = 120, 140  # pixels: of these two, and between them and the rest
PROMPTS = "a red fox asleep on a mossy log\na bowl of ramen, seen from above\na lighthouse on a cliff in a storm"


@dataclass(frozen=True)
class Blueprint:
    """Which nodes of a template, and what of them is shown. A node is named by its type: each stands there once."""

    template: str
    description: str
    nodes: tuple[str, ...]
    widgets: tuple[tuple[str, str], ...]  # (node, widget)
    outputs: tuple[tuple[str, str], ...]  # (node, output)
    values: Mapping[tuple[str, str], object] = field(default_factory=dict)  # (node, widget) -> in the template's place


BLUEPRINTS = {
    "Train on these prompts (MixGRPO)": Blueprint(
        "sd35_medium_16gb",
        "Trains a LoRA on your prompts for a reward, and gives the model with it. The settings inside are SD3.5 "
        "medium's on 16 GB: for another model choose a preset of MixGRPO Algorithm and the images' size.",
        ("MixGRPO_Prompts", "MixGRPO_Algorithm", "MixGRPO_LoRA", "MixGRPO_Train", "MixGRPO_Wait", "MixGRPO_ApplyRun"),
        (
            ("MixGRPO_Prompts", "text"),
            ("MixGRPO_Algorithm", "preset"),
            ("MixGRPO_Train", "run_name"),
            ("MixGRPO_Train", "iterations"),
            ("MixGRPO_Train", "width"),
            ("MixGRPO_Train", "height"),
        ),
        (("MixGRPO_ApplyRun", "model"), ("MixGRPO_ApplyRun", "base_model"), ("MixGRPO_Train", "run")),
        {("MixGRPO_Train", "run_name"): "on-these-prompts"},
    ),
    "Compare base and tuned (MixGRPO)": Blueprint(
        "compare_models",
        "Scores images of two models with the same prompts and noises, side by side and with intervals.",
        ("MixGRPO_Prompts", "MixGRPO_Evaluate"),
        (
            ("MixGRPO_Prompts", "text"),
            ("MixGRPO_Evaluate", "steps"),
            ("MixGRPO_Evaluate", "cfg"),
            ("MixGRPO_Evaluate", "width"),
            ("MixGRPO_Evaluate", "height"),
        ),
        (("MixGRPO_Evaluate", "grid"), ("MixGRPO_Evaluate", "text")),
        {
            ("MixGRPO_Prompts", "text"): PROMPTS,
            ("MixGRPO_Prompts", "held_out"): 0,
            ("MixGRPO_Evaluate", "width"): 512,
            ("MixGRPO_Evaluate", "height"): 512,
        },
    ),
}


def main() -> None:
    for name in BLUEPRINTS:
        path(name).write_text(json.dumps(made(name), indent=1) + "\n", encoding="utf-8")
        print(f"{path(name).relative_to(ROOT)}")


def path(name: str) -> Path:
    return ROOT / "subgraphs" / f"{name}.json"


def made(name: str) -> dict:
    """The blueprint as a workflow of one node, the subgraph's."""
    about = BLUEPRINTS[name]
    graph = json.loads((ROOT / "workflows" / f"{about.template}.json").read_text(encoding="utf-8"))
    nodes = {node["type"]: copy.deepcopy(node) for node in graph["nodes"] if node["type"] in about.nodes}
    by_id = {node["id"]: node for node in nodes.values()}
    _move(list(nodes.values()))
    for node in nodes.values():
        for slot in node["inputs"]:
            slot["link"] = None
        for slot in node["outputs"]:
            slot["links"] = None
    for (kind, widget), value in about.values.items():
        names = [slot["name"] for slot in nodes[kind]["inputs"] if "widget" in slot]
        assert len(names) == len(nodes[kind]["widgets_values"]), f"{kind}'s values are not one a widget."
        nodes[kind]["widgets_values"][names.index(widget)] = value

    links: list[dict] = []
    inputs: dict[tuple[int, int], dict] = {}  # (node outside, its output) -> the subgraph's input

    def connect(origin: tuple[int, int], target: tuple[int, int], type_: str) -> int:
        number = len(links) + 1
        names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
        links.append(dict(zip(names, (number, *origin, *target, type_), strict=True)))
        if origin[0] in by_id:
            slot = by_id[origin[0]]["outputs"][origin[1]]
            slot["links"] = [*(slot["links"] or []), number]
        if target[0] in by_id:
            by_id[target[0]]["inputs"][target[1]]["link"] = number
        return number

    for _, origin, output, target, place, type_ in graph["links"]:
        if target not in by_id:
            continue
        if origin in by_id:
            connect((origin, output), (target, place), type_)
            continue
        entry = inputs.setdefault(
            (origin, output), {**_slot(name, by_id[target]["inputs"][place]["name"], type_), "linkIds": []}
        )
        at = list(inputs).index((origin, output))
        entry["linkIds"].append(connect((INPUTS, at), (target, place), type_))
    outputs = []
    for at, (kind, output) in enumerate(about.outputs):
        place, slot = next((n, each) for n, each in enumerate(nodes[kind]["outputs"]) if each["name"] == output)
        number = connect((nodes[kind]["id"], place), (OUTPUTS, at), slot["type"])
        outputs.append({**_slot(name, output, slot["type"], "output"), "linkIds": [number]})

    right = max(node["pos"][0] + node["size"][0] for node in nodes.values())
    subgraph = {
        "id": _id(name),
        "version": 1,
        "state": {"lastGroupId": 0, "lastNodeId": max(by_id), "lastLinkId": len(links), "lastRerouteId": 0},
        "revision": 0,
        "config": {},
        "name": name,
        "inputNode": {"id": INPUTS, "bounding": [-WIDTH - END, 0, WIDTH, 40 + 20 * len(inputs)]},
        "outputNode": {"id": OUTPUTS, "bounding": [right + END, 0, WIDTH, 40 + 20 * len(outputs)]},
        "inputs": list(inputs.values()),
        "outputs": outputs,
        "widgets": [],
        "nodes": list(nodes.values()),
        "groups": [],
        "links": links,
        "extra": {},
        "category": "MixGRPO",
        "description": about.description,
    }
    outer = {
        "id": 1,
        "type": subgraph["id"],
        "pos": [0, 0],
        "size": [400, 300],
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": [{"name": each["name"], "type": each["type"], "link": None} for each in subgraph["inputs"]],
        "outputs": [{"name": each["name"], "type": each["type"], "links": None} for each in outputs],
        "title": name,
        "properties": {"proxyWidgets": [[str(nodes[kind]["id"]), widget] for kind, widget in about.widgets]},
        "widgets_values": [],
    }
    return {
        "revision": 0,
        "last_node_id": 1,
        "last_link_id": 0,
        "nodes": [outer],
        "links": [],
        "version": 0.4,
        "definitions": {"subgraphs": [subgraph]},
        "extra": {},
    }


def _slot(blueprint: str, name: str, type_: str, end: str = "input") -> dict:
    return {"id": _id(f"{blueprint}/{end}/{name}"), "name": name, "type": type_}


def _id(of: str) -> str:
    """The same at each making."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"comfyui-mixgrpo/{of}"))


def _move(nodes: list[dict]) -> None:
    """So that the first stands at the corner; the gaps that other nodes have left are closed, from left to right."""
    columns = sorted({node["pos"][0] for node in nodes})
    tops = {left: min(node["pos"][1] for node in nodes if node["pos"][0] == left) for left in columns}
    at, places = 0, {}
    for left in columns:
        places[left] = at
        at += max(node["size"][0] for node in nodes if node["pos"][0] == left) + 60
    for node in nodes:
        left = node["pos"][0]
        node["pos"] = [places[left], node["pos"][1] - tops[left]]


if __name__ == "__main__":
    main()
