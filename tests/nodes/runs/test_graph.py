"""Cutting the graph that a worker needs, and telling whether two graphs mean the same."""

import copy
import json
import math

import pytest


@pytest.fixture
def graph_module(pack):
    return pack.nodes.runs.graph


class Prompt:
    """What ComfyUI's DynamicPrompt offers, over nodes of the API prompt and of expanded nodes alike."""

    def __init__(self, nodes):
        self.nodes = nodes

    def has_node(self, node_id):
        return node_id in self.nodes

    def get_node(self, node_id):
        return self.nodes[node_id]


LAZY = ("model", "clip", "vae", "reward")


def example():
    return {
        "1": {"class_type": "Loader", "inputs": {"name": "a.safetensors"}, "_meta": {"title": "My loader"}},
        "2": {"class_type": "Patch", "inputs": {"model": ["1", 0], "by": 0.5}},
        "12:5": {"class_type": "Reward", "inputs": {}},
        "20.0.0.1": {"class_type": "Vae", "inputs": {}},
        "6": {"class_type": "Prompts", "inputs": {"text": "a\nb"}},
        "7": {
            "class_type": "Train",
            "inputs": {
                "model": ["2", 0], "clip": ["1", 1], "vae": ["20.0.0.1", 0], "reward": ["12:5", 0],
                "prompts": ["6", 0], "seed": 3,
            },
        },
        "8": {"class_type": "Apply", "inputs": {"run": ["7", 0], "model": ["1", 0]}},
    }  # fmt: skip


def print_of(module, nodes, settings=None, node_id="7"):
    return module.fingerprint(module.cut(Prompt(nodes), node_id, LAZY), node_id, settings or {})


def test_cut_has_the_node_its_wanted_inputs_and_all_upstream(graph_module):
    cut = graph_module.cut(Prompt(example()), "7", LAZY)
    assert set(cut) == {"1", "2", "12:5", "20.0.0.1", "7"}
    assert set(cut["7"]["inputs"]) == set(LAZY)
    assert cut["1"] == {
        "class_type": "Loader",
        "inputs": {"name": "a.safetensors"},
        "_meta": {"title": "My loader"},
    }


def test_cut_leaves_out_what_the_server_writes_and_shares_nothing(graph_module):
    nodes = example()
    nodes["1"]["is_changed"] = [math.nan]
    nodes["1"]["inputs"]["list"] = {"deep": [1]}
    before = copy.deepcopy({k: v for k, v in nodes.items() if k != "1"})
    cut = graph_module.cut(Prompt(nodes), "7", LAZY)
    json.dumps(cut, allow_nan=False)
    cut["1"]["inputs"]["list"]["deep"].append(2)
    assert nodes["1"]["inputs"]["list"] == {"deep": [1]}
    assert {k: v for k, v in nodes.items() if k != "1"} == before


@pytest.mark.parametrize("value", [math.nan, math.inf, object()])
def test_cut_refuses_what_json_cannot_hold(graph_module, value):
    nodes = example()
    nodes["2"]["inputs"]["by"] = value
    with pytest.raises(ValueError, match=r"Input 'by' of node 2 \(Patch\) can't be written"):
        graph_module.cut(Prompt(nodes), "7", LAZY)


def test_list_widget_that_looks_like_a_link_stays_a_value(graph_module):
    nodes = example()
    nodes["2"]["inputs"]["pair"] = ["no node", 1]
    cut = graph_module.cut(Prompt(nodes), "7", LAZY)
    assert cut["2"]["inputs"]["pair"] == ["no node", 1]
    assert print_of(graph_module, nodes) != print_of(graph_module, example())


def test_part_of_a_cut_graph_for_one_input(graph_module):
    cut = graph_module.cut(Prompt(example()), "7", LAZY)
    assert set(graph_module.keep_inputs(cut, "7", ["clip"])) == {"1", "7"}
    assert set(graph_module.keep_inputs(cut, "7", ["vae", "reward"])) == {"20.0.0.1", "12:5", "7"}


def test_ids_titles_and_order_do_not_change_the_fingerprint(graph_module):
    nodes = example()
    renamed = {"1": "100", "2": "5:1", "7": "3"}

    def rename(value):
        return [renamed.get(value[0], value[0]), value[1]] if isinstance(value, list) else value

    other = {
        renamed.get(key, key): {
            "class_type": node["class_type"],
            "inputs": {k: rename(v) for k, v in reversed(node["inputs"].items())},
            "_meta": {"title": "something else"},
        }
        for key, node in reversed(nodes.items())
    }
    assert print_of(graph_module, other, node_id="3") == print_of(graph_module, nodes)


@pytest.mark.parametrize(
    "change",
    [
        lambda nodes: nodes["1"]["inputs"].update(name="b.safetensors"),
        lambda nodes: nodes["2"]["inputs"].update(by=0.6),
        lambda nodes: nodes["2"].update(class_type="OtherPatch"),
        lambda nodes: nodes["7"]["inputs"].update(model=["1", 0]),
        lambda nodes: nodes["7"]["inputs"].update(clip=["1", 0]),
        lambda nodes: nodes["7"]["inputs"].update(vae=["1", 2], clip=["20.0.0.1", 0]),
    ],
)
def test_every_upstream_change_changes_the_fingerprint(graph_module, change):
    nodes = example()
    change(nodes)
    assert print_of(graph_module, nodes) != print_of(graph_module, example())


def test_settings_change_the_fingerprint_and_other_nodes_do_not(graph_module):
    nodes = example()
    plain = print_of(graph_module, nodes)
    assert print_of(graph_module, nodes, {"seed": 1}) != plain
    nodes["8"]["inputs"]["strength"] = 2.0
    nodes["6"]["inputs"]["text"] = "prompts count through the settings"
    assert print_of(graph_module, nodes) == plain


def test_circle_is_refused_not_followed_forever(graph_module):
    nodes = example()
    nodes["1"]["inputs"]["again"] = ["2", 0]
    with pytest.raises(ValueError, match="runs in a circle"):
        print_of(graph_module, nodes)


def test_deep_shared_graph_is_walked_once(graph_module):
    """Each node uses the one before twice: 2**200 paths, 201 nodes."""
    nodes = {"0": {"class_type": "Loader", "inputs": {}}}
    for number in range(1, 201):
        nodes[str(number)] = {"class_type": "Merge", "inputs": {"a": [str(number - 1), 0], "b": [str(number - 1), 0]}}
    nodes["7t"] = {"class_type": "Train", "inputs": {"model": ["200", 0]}}
    assert len(print_of(graph_module, nodes, node_id="7t")) == 64
