"""Which packs a worker loads: those of the graph, those that the owner names, and, when a node misses one, more."""

import json
from types import SimpleNamespace

import pytest

GRAPH = {"1": {"class_type": "A"}, "2": {"class_type": "Stock"}, "3": {"class_type": "E"}}
EXTRA, MORE = "comfy_extras.nodes_extra", "comfy_extras.nodes_more"


@pytest.fixture
def packs(room, tmp_path, monkeypatch):
    """The module, in a ComfyUI with the packs alpha (A), beta (B, C) and gamma (D), and files of its own: extra (E) and
    more (F); patches has no nodes."""
    import folder_paths
    import nodes

    types = {"A": "alpha", "B": "beta", "C": "beta", "D": "gamma"}
    modules = {kind: f"custom_nodes.{name}" for kind, name in types.items()} | {"E": EXTRA, "F": MORE}
    classes = {kind: type(kind, (), {"RELATIVE_PYTHON_MODULE": name}) for kind, name in modules.items()}
    monkeypatch.setattr(nodes, "NODE_CLASS_MAPPINGS", {**classes, "Stock": type("Stock", (), {})})
    for name in ("alpha", "beta", "gamma", "patches"):
        (tmp_path / "custom_nodes" / name).mkdir(parents=True)
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "custom_nodes", ([str(tmp_path / "custom_nodes")], set()))
    monkeypatch.setattr(folder_paths, "user_directory", str(tmp_path))
    return room("nodes.runs.packs")


@pytest.mark.parametrize(
    "named, loaded",
    [
        ("", ["alpha"]),
        ("gamma", ["alpha", "gamma"]),
        ("all", ["alpha", "beta", MORE, "gamma"]),
        ("all, patches", ["alpha", "beta", MORE, "gamma", "patches"]),
    ],
)
def test_the_graphs_packs_and_those_of_worker_packs_are_loaded(packs, monkeypatch, named, loaded):
    monkeypatch.setenv("MIXGRPO_WORKER_PACKS", named)
    orders = packs.orders(GRAPH)
    assert orders["packs"] == sorted([*loaded, EXTRA])
    every = {"alpha": ["A"], "beta": ["B", "C"], "gamma": ["D"], EXTRA: ["E"], MORE: ["F"]}
    assert orders["others"] == {name: kinds for name, kinds in every.items() if name not in orders["packs"]}


def test_a_pack_that_isnt_there_is_one_sentence(packs, tmp_path):
    (tmp_path / "mixgrpo.json").write_text(json.dumps({"worker_packs": ["Beta"]}))
    with pytest.raises(ValueError, match="^worker_packs names 'Beta', which isn't in custom_nodes: .*mixgrpo.json"):
        packs.orders(GRAPH)


def test_a_node_type_that_isnt_there_is_one_sentence(packs):
    with pytest.raises(ValueError, match="^The run needs the node type 'Z': install its pack again.$"):
        packs.orders({"1": {"class_type": "Z"}})


@pytest.fixture
def again(room, packs):
    """again(missing, lookup): which packs a worker of GRAPH starts again with, and the notice; None if it doesn't."""
    anew, errors = room("nodes.worker.anew"), room("nodes.worker.errors")

    def run(missing, lookup, orders=None):
        told = []
        reporter = SimpleNamespace(checkpoint=0, emit=told.append)
        error = errors.GraphError("Node 1 (A): 'C'", missing=missing, lookup=lookup)
        wider = anew.wider(orders or packs.orders(GRAPH), error, reporter)
        return wider and (wider, told[0].message)

    return run


def test_first_with_the_pack_that_a_node_has_looked_for_and_then_with_all(again):
    orders, notice = again({"C", "unknown"}, lookup=False)
    assert orders["packs"] == ["alpha", "beta", EXTRA] and orders["others"] == {"gamma": ["D"], MORE: ["F"]}
    assert notice.startswith("Node 1 (A): 'C'. ") and "it starts again with beta, too." in notice
    assert again({"C"}, lookup=False, orders=orders) is None
    orders, _ = again({"C"}, lookup=True, orders=orders)
    assert orders["packs"] == ["alpha", "beta", EXTRA, "gamma"], "a file of ComfyUI's own has node types only"
    assert again({"C"}, lookup=True, orders=orders) is None
    orders, notice = again({"F"}, lookup=True, orders=orders)
    assert MORE in orders["packs"] and orders["others"] == {} and f"it starts again with {MORE}, too." in notice


@pytest.mark.parametrize("missing", [set(), {"nobody's"}])
def test_an_error_of_another_kind_is_the_last_word(again, missing):
    assert again(missing, lookup=False) is None


def test_what_is_looked_for_in_vain_is_noted_however_it_is_asked(room, packs):
    import nodes

    types = room("nodes.worker.compat")._NodeTypes(nodes.NODE_CLASS_MAPPINGS)
    assert "A" in types and types["B"] is types.get("B") and types.missed == set()
    assert "W" not in types and types.get("X") is None and types.get("Y", 1) == 1
    with pytest.raises(KeyError, match="^'Z'$"):
        types["Z"]
    assert types.missed == {"W", "X", "Y", "Z"}
