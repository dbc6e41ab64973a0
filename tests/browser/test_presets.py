"""MixGRPO_Algorithm in the browser: a chosen preset fills in the fields, an edit makes it custom, loading does nothing.

With real clicks and keys, both as the canvas draws nodes and as Nodes 2.0 does.
"""

import pytest

from tests.browser.people import Canvas, Nodes2

ADD = """
async () => {
  const { app, LiteGraph } = window;
  app.graph.clear();
  const node = LiteGraph.createNode("MixGRPO_Algorithm");
  node.pos = [200, 150];
  node.showAdvanced = true;
  app.graph.add(node);
  Object.assign(app.canvas.ds, { scale: 1, offset: [0, 0] });
  app.canvas.setDirty(true, true);
  await new Promise((done) => setTimeout(done, 500));
}
"""
VALUES = """
() => {
  const node = window.app.graph._nodes.find((n) => n.type === "MixGRPO_Algorithm");
  return Object.fromEntries(node.widgets.filter((w) => w.serialize !== false).map((w) => [w.name, w.value]));
}
"""
POSTED = """
async () => {
  const { output } = await window.app.graphToPrompt();
  return Object.values(output).find((n) => n.class_type === "MixGRPO_Algorithm").inputs;
}
"""
SETTLE = "await new Promise((done) => setTimeout(done, 300));"
LOAD = "async (graph) => { await window.app.loadGraphData(graph, true, true); " + SETTLE + " }"
DROP = "async (prompt) => { window.app.loadApiJson(prompt, 'dropped'); " + SETTLE + " }"


@pytest.fixture(scope="module")
def presets(server):
    """Preset -> field -> value, as the server gives them."""
    node = server.get("/object_info/MixGRPO_Algorithm")["MixGRPO_Algorithm"]
    return node["input"]["optional"]["preset"][1]["presets"]


@pytest.fixture
def person(drawn, nodes2):
    drawn.evaluate(ADD)
    return (Nodes2 if nodes2 else Canvas)(drawn)


def test_choosing_a_preset_fills_in_every_field(drawn, presets, person):
    assert drawn.evaluate(VALUES) == {"preset": "MixGRPO", **presets["MixGRPO"]}
    for name in ("Flow-GRPO-Fast", "DanceGRPO"):
        person.choose("preset", name)
        assert drawn.evaluate(VALUES) == {"preset": name, **presets[name]}
        assert drawn.evaluate(POSTED) == {"preset": name, **presets[name]}
    person.choose("preset", "custom")
    assert drawn.evaluate(POSTED) == {"preset": "custom", **presets["DanceGRPO"]}


def test_an_edited_field_makes_the_preset_custom(drawn, presets, person):
    person.choose("preset", "MixGRPO-Flash")
    person.type("steps", "25")
    assert drawn.evaluate(POSTED) == {"preset": "MixGRPO-Flash", **presets["MixGRPO-Flash"]}
    person.type("steps", "16")
    assert drawn.evaluate(POSTED) == {**presets["MixGRPO-Flash"], "preset": "custom", "steps": 16}
    person.choose("preset", "MixGRPO")
    person.choose("transition", "cps")
    assert drawn.evaluate(POSTED) == {**presets["MixGRPO"], "preset": "custom", "transition": "cps"}


def test_loading_a_workflow_changes_nothing(page, presets):
    """A saved graph may say a preset's name with fields of its own: the fields are what counts."""
    page.evaluate(ADD)
    changed = {"preset": "DanceGRPO", **presets["Flow-GRPO"], "steps": 3, "kl_weight": 0.25}
    graph = page.evaluate(
        """
        (values) => {
          for (const widget of window.app.graph._nodes[0].widgets) widget.value = values[widget.name];
          return JSON.parse(JSON.stringify(window.app.graph.serialize()));
        }
        """,
        changed,
    )
    page.evaluate(LOAD, {**graph, "nodes": []})
    page.evaluate(LOAD, graph)
    assert page.evaluate(VALUES) == changed and page.evaluate(POSTED) == changed


def test_a_workflow_of_before_a_field_was_there_means_what_it_meant(page, presets):
    """34 values are of the first release. Its runs had a LoRA with alpha = rank, whatever the first preset has now."""
    page.evaluate(ADD)
    graph = page.evaluate("() => JSON.parse(JSON.stringify(window.app.graph.serialize()))")
    assert page.evaluate(VALUES)["lora_alpha"] == presets["MixGRPO"]["lora_alpha"] == 64
    values = graph["nodes"][0]["widgets_values"]
    graph["nodes"][0]["widgets_values"] = values[:34]
    page.evaluate(LOAD, {**graph, "nodes": []})
    page.evaluate(LOAD, graph)
    new = {"spacing": "uniform", "advantage_spread": "group", "lora_alpha": 0, "lora_targets": ""}
    assert page.evaluate(POSTED) == {"preset": "MixGRPO", **presets["MixGRPO"], **new}


@pytest.mark.parametrize("reverse", [False, True])
def test_an_api_prompt_means_the_same_when_it_is_dropped_onto_the_canvas(page, presets, reverse):
    """There a field that isn't given has the preset's value and a given one wins, in whatever order they stand."""

    def drop(**inputs):
        inputs = dict(reversed(inputs.items())) if reverse else inputs
        node = {"class_type": "MixGRPO_Algorithm", "inputs": inputs, "_meta": {"title": "Algorithm"}}
        page.evaluate(DROP, {"1": node})
        return page.evaluate(POSTED)

    assert drop(preset="MixGRPO-Flash*") == {"preset": "MixGRPO-Flash*", **presets["MixGRPO-Flash*"]}
    assert drop(preset="DanceGRPO", steps=7) == {**presets["DanceGRPO"], "preset": "custom", "steps": 7}
    custom = {"preset": "custom", **presets["Flow-GRPO"], "eta": 0.2}
    assert drop(**custom) == custom
