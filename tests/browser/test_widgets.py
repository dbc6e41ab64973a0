"""Widgets keep their values and come in two parts, on the canvas and with Nodes 2.0, in both frontends."""

import json

import pytest

from scripts.comfyui_server import ROOT
from tests.browser.modes import EVERYWHERE
from tests.browser.people import PLACE, Canvas, Nodes2

SETTLE = "await new Promise((done) => setTimeout(done, 400));"
LOAD = "async (graph) => { await window.app.loadGraphData(graph, true, true); " + SETTLE + " }"
ADD = (
    """
async (type) => {
  const { app, LiteGraph } = window;
  app.graph.clear();
  const node = LiteGraph.createNode(type);
  node.pos = [400, 200];
  app.graph.add(node);
  Object.assign(app.canvas.ds, { scale: 0.6, offset: [0, 0] });
  app.canvas.setDirty(true, true);
  """
    + SETTLE
    + "}"
)
POSTED = "async () => (await window.app.graphToPrompt()).output"
SAVED = "() => JSON.parse(JSON.stringify(window.app.graph.serialize()))"
HEIGHT = "() => document.querySelector('[data-node-id]')?.offsetHeight ?? window.app.graph._nodes[0].size[1]"
# A node's numbers, with all of them in front, as large as the screen allows.
SHOW_NUMBERS = (
    """
async (id) => {
  const { app } = window;
  const node = app.graph.getNodeById(id);
  node.showAdvanced = true;
  node.onAdded?.(app.graph);
  await new Promise((done) => setTimeout(done, 300));
  const height = document.querySelector(`[data-node-id="${id}"]`)?.offsetHeight ?? node.size[1];
  const scale = Math.min(1, 700 / height);
  Object.assign(app.canvas.ds, { scale, offset: [350 / scale - node.pos[0], 150 / scale - node.pos[1]] });
  app.canvas.setDirty(true, true);
  """
    + SETTLE
    + """
  return node.widgets.filter((w) => w.type === "number" && !w.hidden).map((w) => w.name);
}
"""
)
PLACE_IN = PLACE.replace("(name) =>", "([id, name]) =>").replace("_nodes[0]", "getNodeById(id)")
DISPLAYED = "([id, name]) => window.app.graph.getNodeById(id).widgets.find((w) => w.name === name)._displayValue"
# The rows of a node, as a person sees them, in their order.
ROWS = """
() => {
  const node = window.app.graph._nodes[0];
  const rows = [...document.querySelectorAll("[data-node-id] .lg-node-widget")];
  const names = node.widgets.map((w) => w.name);
  const nameOf = (row) => names.find((name) => row.innerText.split("\\n")[0] === name);
  const setting = (name) => name && name !== "run_display" && name !== "more settings";
  if (rows.length) return rows.map(nameOf).filter(setting);
  const visible = node.isWidgetRowVisible ?? node.isWidgetVisible; // newer frontends draw only the slot of a linked one
  return node.widgets.filter((w) => visible.call(node, w)).map((w) => w.name).filter(setting);
}
"""
FRONT = {
    "MixGRPO_Train": ["run_name", "iterations", "seed", "width", "height", "mode"],
    "MixGRPO_Algorithm": ["preset", "steps", "cfg", "group_size", "prompts_per_iteration", "learning_rate"],
    "MixGRPO_LoRA": ["rank"],
}
TOGETHER = 6  # nodes on the canvas
SMALL = {"learning_rate": 2.5e-6, "kl_weight": 0.00025, "clip_range": 3e-7, "kl_mask_threshold": 2e-8, "eta": 0.35}


@pytest.fixture
def person(drawn, nodes2):
    return (Nodes2 if nodes2 else Canvas)(drawn)


def click_through(drawn, nodes2, node_id, names, values):
    """Clicks into each number of a node and leaves it, changing nothing."""
    for name in names:
        if nodes2:
            row = drawn.locator(f"[data-node-id='{node_id}'] .lg-node-widget", has=drawn.get_by_text(name, exact=True))
            row.locator("input").click(force=True)
            drawn.keyboard.press("Tab")
            shown = row.locator("input").input_value()
        else:
            drawn.mouse.click(*drawn.evaluate(PLACE_IN, [node_id, name]))
            drawn.locator(".graphdialog input").press("Enter")
            shown = drawn.evaluate(DISPLAYED, [node_id, name])
        assert float(shown.replace(",", "")) == pytest.approx(values[name], rel=1e-9), name
        drawn.wait_for_timeout(50)


def nodes_with_numbers():
    """(template, node, its numbers) of the templates' nodes: each value of a fraction, and a whole number, once."""
    found, seen = [], set()
    for path in sorted((ROOT / "workflows").glob("*.json")):
        ui = json.loads(path.read_text(encoding="utf-8"))
        api = json.loads((path.parent / "api" / path.name).read_text(encoding="utf-8"))
        for node in (node for node in ui["nodes"] if node["type"].startswith("MixGRPO_")):
            values = {
                name: value
                for name, value in api[str(node["id"])]["inputs"].items()
                if type(value) in (int, float)
                and (node["type"], name, value if type(value) is float else int) not in seen
            }
            seen |= {(node["type"], name, value if type(value) is float else int) for name, value in values.items()}
            if values:
                found.append((ui, node, values))
    return found


@EVERYWHERE
def test_a_click_into_a_number_changes_nothing(drawn, nodes2):
    """With Nodes 2.0 of an older frontend one into learning_rate made 1e-8 of 1e-4."""
    nodes, clicked = nodes_with_numbers(), 0
    for start in range(0, len(nodes), TOGETHER):
        part = nodes[start : start + TOGETHER]
        apart = [
            {**node, "id": place + 1, "pos": [400 + 4000 * place, 200], "inputs": [], "outputs": []}
            for place, (_, node, _) in enumerate(part)
        ]
        drawn.evaluate(LOAD, {**part[0][0], "nodes": apart, "links": [], "groups": []})
        before = drawn.evaluate(POSTED)
        for node, (_, _, values) in zip(apart, part, strict=True):
            names = [name for name in drawn.evaluate(SHOW_NUMBERS, node["id"]) if name in values]
            click_through(drawn, nodes2, node["id"], names, values)
            clicked += len(names)
        assert drawn.evaluate(POSTED) == before, [node["type"] for node in apart]
    assert clicked == sum(len(values) for _, _, values in nodes) > 70


@EVERYWHERE
def test_small_numbers_are_taken_as_they_are_typed(drawn, nodes2, person):
    drawn.evaluate(ADD, "MixGRPO_Algorithm")
    drawn.evaluate(SHOW_NUMBERS, drawn.evaluate("() => window.app.graph._nodes[0].id"))
    for name, value in SMALL.items():
        person.type(name, f"{value:.10f}".rstrip("0"))
    (posted,) = drawn.evaluate(POSTED).values()
    assert {name: posted["inputs"][name] for name in SMALL} == pytest.approx(SMALL, rel=1e-9)


@EVERYWHERE
@pytest.mark.parametrize("kind", FRONT)
def test_what_a_beginner_needs_is_in_front(drawn, kind):
    """The rest comes by a button and goes again; values, their order and what is posted are the same all the time."""
    drawn.evaluate(ADD, kind)
    saved, posted = drawn.evaluate(SAVED)["nodes"][0], drawn.evaluate(POSTED)
    every = [name for name, value in next(iter(posted.values()))["inputs"].items() if not isinstance(value, list)]
    assert len(saved["widgets_values"]) == len(every) > len(FRONT[kind])
    heights = []
    for unfolded in (False, True, False, True, False):
        assert drawn.evaluate(ROWS) == (every if unfolded else FRONT[kind])
        now = drawn.evaluate(SAVED)["nodes"][0]
        assert now["widgets_values"] == saved["widgets_values"] and bool(now["showAdvanced"]) is unfolded
        assert drawn.evaluate(POSTED) == posted
        heights.append(drawn.evaluate(HEIGHT))
        press_fold(drawn)
    assert heights[0] == heights[2] == heights[4] < heights[1] == heights[3]


def press_fold(drawn):
    """Ours, or the frontend's own."""
    own = drawn.get_by_text("advanced inputs")
    if own.count():
        own.first.click()
    else:
        row = drawn.locator(".lg-node-widget button", has_text="settings")
        if row.count():
            row.first.dispatch_event("click")  # unfolded, a node may reach below the window
        else:
            drawn.mouse.click(*drawn.evaluate(PLACE, "more settings"))
    drawn.wait_for_timeout(600)


@EVERYWHERE
def test_a_node_opens_as_it_was_saved(drawn):
    drawn.evaluate(ADD, "MixGRPO_Algorithm")
    folded = drawn.evaluate(SAVED)
    press_fold(drawn)
    unfolded = drawn.evaluate(SAVED)
    few, every = len(FRONT["MixGRPO_Algorithm"]), len(folded["nodes"][0]["widgets_values"])
    for graph, rows in ((folded, few), (unfolded, every), (folded, few)):
        drawn.evaluate(LOAD, graph)
        assert len(drawn.evaluate(ROWS)) == rows


def test_a_node_of_before_nodes_folded_opens_folded_and_no_taller(drawn):
    """So that what stands below it stays below it."""
    drawn.evaluate(ADD, "MixGRPO_Algorithm")
    height = drawn.evaluate(HEIGHT)
    graph = drawn.evaluate(SAVED)
    del graph["nodes"][0]["showAdvanced"]
    graph["nodes"][0]["size"][1] = 980  # with 38 widgets
    drawn.evaluate(LOAD, graph)
    assert drawn.evaluate(ROWS) == FRONT["MixGRPO_Algorithm"]
    assert drawn.evaluate(HEIGHT) == pytest.approx(height, abs=1)


@EVERYWHERE
def test_a_folded_setting_that_is_linked_stays_in_sight(drawn):
    drawn.evaluate(ADD, "MixGRPO_Algorithm")
    drawn.evaluate(
        """
        async () => {
          const { app, LiteGraph } = window;
          const source = LiteGraph.createNode("PrimitiveFloat");
          source.pos = [800, 100];
          app.graph.add(source);
          const [node] = app.graph._nodes;
          source.connect(0, node, node.inputs.findIndex((input) => input.name === "kl_weight"));
          await new Promise((done) => setTimeout(done, 500));
        }
        """
    )
    assert in_sight(drawn, "kl_weight") and not in_sight(drawn, "eta")
    graph = drawn.evaluate(SAVED)
    drawn.evaluate(LOAD, {**graph, "nodes": [], "links": []})
    drawn.evaluate(LOAD, graph)
    assert in_sight(drawn, "kl_weight") and not in_sight(drawn, "eta")
    drawn.evaluate("() => window.app.graph._nodes[0].disconnectInput('kl_weight')")
    drawn.wait_for_timeout(500)
    assert not in_sight(drawn, "kl_weight")


def in_sight(drawn, name):
    text = drawn.evaluate("() => document.querySelector('[data-node-id]')?.innerText.split('\\n')")
    return name in (text or drawn.evaluate(ROWS))


def test_wires_of_our_types_have_colours_of_their_own(drawn):
    types = ["PROMPTS", "REWARD", "ALGORITHM", "LORA", "RUN"]
    looks = """
    (types) => types.map((type) => {
      const name = `MIXGRPO_${type}`;
      const style = getComputedStyle(document.documentElement).getPropertyValue(`--color-datatype-${name}`);
      const { canvas } = window.app;
      return [canvas.default_connection_color_byType[name], canvas.constructor.link_type_colors[name], style.trim()];
    })
    """
    found = drawn.evaluate(looks, types)
    for colors in found:
        assert len({*colors}) == 1 and colors[0].startswith("#")
    assert len({colors[0] for colors in found}) == len(types)
    for palette in ("light", "dark"):
        drawn.evaluate("(name) => window.app.ui.settings.setSettingValueAsync('Comfy.ColorPalette', name)", palette)
        drawn.wait_for_timeout(500)
        assert drawn.evaluate(looks, types) == found


def test_templates_hold_nothing_of_what_folds_and_shows():
    for path in (ROOT / "workflows").glob("*.json"):
        for node in json.loads(path.read_text(encoding="utf-8"))["nodes"]:
            if node["type"] == "MixGRPO_Train":
                assert "more settings" not in node["widgets_values"] and None not in node["widgets_values"]
