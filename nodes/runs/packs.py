"""Which custom node packs a worker loads: those of its graph's nodes, and those that the owner names in worker_packs.

Fewer than the server, so that it starts soon and nothing but the graph's packs can break it. Each of the files in which
ComfyUI has most of its own nodes counts as a pack, too: they import libraries for half a second.
"""

from __future__ import annotations

import os
from contextlib import suppress

from .. import owner_settings

CUSTOM, BUILT_IN = "custom_nodes.", "comfy_extras."
SETTING, ALL = "worker_packs", "all"


def orders(cut: dict) -> dict:
    """What a worker is told: "packs", the names to load; "others", {name: node types} of what else the server has.

    A name is that of a folder in custom_nodes, or of a file without its .py; "comfy_extras.nodes_sd3" is one of
    ComfyUI's own files. Raises ValueError with one sentence.
    """
    there, named = by_name(), set(owner_settings.words(SETTING))
    wanted = of_graph(cut) | (named - {ALL}) | (there.keys() if ALL in named else set())
    if unknown := wanted - there.keys() - _installed():
        raise ValueError(
            f"{SETTING} names '{min(unknown)}', which isn't in custom_nodes: write its folder's name as it is there "
            f"({owner_settings.how_to_set(SETTING)})."
        )
    return {"packs": sorted(wanted), "others": {name: kinds for name, kinds in there.items() if name not in wanted}}


def of_graph(cut: dict) -> set[str]:
    """Raises ValueError for a node type that this ComfyUI doesn't have."""
    import nodes

    found = set()
    for node in cut.values():
        if node["class_type"] not in nodes.NODE_CLASS_MAPPINGS:
            raise ValueError(f"The run needs the node type '{node['class_type']}': install its pack again.")
        found.add(_pack(nodes.NODE_CLASS_MAPPINGS[node["class_type"]]))
    return found - {""}


def node_types() -> list[str]:
    """All that this ComfyUI has."""
    import nodes

    return sorted(map(str, nodes.NODE_CLASS_MAPPINGS))


def by_name() -> dict[str, list[str]]:
    """The node types of every pack that this ComfyUI has loaded."""
    import nodes

    found: dict[str, list[str]] = {}
    for kind, node in nodes.NODE_CLASS_MAPPINGS.items():
        if name := _pack(node):
            found.setdefault(name, []).append(kind)
    return found


def _pack(node: type) -> str:
    """ "" for nodes that every ComfyUI has loaded."""
    module = getattr(node, "RELATIVE_PYTHON_MODULE", "") or ""
    return module.removeprefix(CUSTOM) if module.startswith((CUSTOM, BUILT_IN)) else ""


def _installed() -> set[str]:
    """Packs without nodes among them, which only change ComfyUI."""
    import folder_paths

    found = set()
    for place in folder_paths.get_folder_paths("custom_nodes"):
        with suppress(OSError):
            found |= {name.removesuffix(".py") for name in os.listdir(place)}
    return found
