"""Cuts what a node needs out of an API prompt, and tells whether two such graphs mean the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

from ..comfy_types import DynamicPrompt


def is_link(value: object) -> bool:
    """ComfyUI's own rule: [node id, output index]."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and type(value[1]) in (int, float)


def cut(prompt: DynamicPrompt, node_id: str, inputs: Sequence[str]) -> dict:
    """The node with only these inputs, and everything upstream of them: {node id: {class_type, inputs, _meta}}.

    prompt: ComfyUI's DynamicPrompt (has_node, get_node), so that nodes inside expanded ones are found too. Only
    these three keys are copied: the server writes others of its own (NaN among them) into the live prompt.
    Raises ValueError for a value that JSON can't hold.
    """
    graph, open_ids = {}, [node_id]
    while open_ids:
        current = open_ids.pop()
        if current in graph:
            continue
        node = prompt.get_node(current)
        wanted = {k: v for k, v in node["inputs"].items() if current != node_id or k in inputs}
        graph[current] = {
            "class_type": node["class_type"],
            "inputs": {k: _plain(v, current, node["class_type"], k) for k, v in wanted.items()},
            "_meta": dict(node.get("_meta") or {}),
        }
        # A list widget may look like a link: it is one only if the node exists.
        open_ids += [v[0] for v in wanted.values() if is_link(v) and prompt.has_node(v[0])]
    return graph


def keep_inputs(graph: dict, node_id: str, inputs: Iterable[str]) -> dict:
    """The part of a cut graph that `node_id` needs for some of its inputs."""
    return cut(_Plain(graph), node_id, list(inputs))


def fingerprint(graph: dict, node_id: str, settings: dict) -> str:
    """sha256 of what the graph and the settings mean: node ids, titles and the order of keys don't count."""
    meaning = {"sources": _signature(graph, node_id, (), {}), "settings": settings}
    return hashlib.sha256(canonical(meaning).encode()).hexdigest()


def _signature(graph: dict, node_id: str, above: tuple[str, ...], known: dict[str, str]) -> str:
    if node_id in above:
        raise ValueError(f"The graph runs in a circle through node {node_id}: remove one of its links.")
    if node_id not in known:
        node, path = graph[node_id], (*above, node_id)
        inputs = {
            name: [_signature(graph, value[0], path, known), value[1]]
            if is_link(value) and value[0] in graph
            else value
            for name, value in node["inputs"].items()
        }
        known[node_id] = hashlib.sha256(canonical([node["class_type"], inputs]).encode()).hexdigest()
    return known[node_id]


def canonical(value: object) -> str:
    """JSON that is the same text for the same value."""
    return json.dumps(value, sort_keys=True, allow_nan=False, separators=(",", ":"))


def _plain(value: object, node_id: str, class_type: str, name: str) -> Any:
    """A deep copy by way of JSON, which is what the run folder can hold."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Input '{name}' of node {node_id} ({class_type}) can't be written to the run's folder ({error}): "
            "use plain text, numbers or links."
        ) from None


class _Plain:
    """A cut graph, seen as ComfyUI's DynamicPrompt."""

    def __init__(self, graph: dict) -> None:
        self.graph = graph

    def has_node(self, node_id: str) -> bool:
        return node_id in self.graph

    def get_node(self, node_id: str) -> dict:
        return self.graph[node_id]
