"""The blueprints are of the templates, and newer frontends open them and post what they hold."""

import json

import pytest

from mixgrpo_engine.presets import preset
from scripts import make_blueprint
from scripts.comfyui_server import ROOT
from tests.browser.test_templates import POSTED, VISIBLE_DIALOGS, complaints, load

NAMES = sorted(make_blueprint.BLUEPRINTS)
EACH = pytest.mark.parametrize("name", NAMES)


def stored(name):
    return json.loads(make_blueprint.path(name).read_text(encoding="utf-8"))


@EACH
def test_the_files_are_those_that_the_script_writes(name):
    assert stored(name) == make_blueprint.made(name)
    assert {path.stem for path in (ROOT / "subgraphs").iterdir()} == set(NAMES)


@EACH
def test_the_server_offers_it(server, name):
    offered = {entry["name"]: entry["info"]["node_pack"] for entry in server.get("/global_subgraphs").values()}
    assert offered[name].startswith("custom_nodes.")


@EACH
def test_it_opens_without_a_warning_and_posts_its_nodes(drawn, name):
    workflow = stored(name)
    load(drawn, workflow)
    assert drawn.evaluate(VISIBLE_DIALOGS) == [] and complaints(drawn) == []
    about, (inside,) = make_blueprint.BLUEPRINTS[name], workflow["definitions"]["subgraphs"]
    # Older frontends put the inner node's number before a widget's name.
    shown = drawn.evaluate("() => window.app.graph._nodes[0].widgets.map((each) => each.name.split(': ').at(-1))")
    assert shown == [widget for _, widget in about.widgets]

    posted = {node["class_type"]: node["inputs"] for node in drawn.evaluate(POSTED).values()}
    twin = json.loads((ROOT / "workflows" / "api" / f"{about.template}.json").read_text(encoding="utf-8"))
    expected = {node["class_type"]: dict(node["inputs"]) for node in twin.values()}
    assert posted.keys() == set(about.nodes)
    ids = {node["type"]: f"1:{node['id']}" for node in inside["nodes"]}
    for kind, inputs in posted.items():
        wanted = {}
        for key, value in expected[kind].items():
            if isinstance(value, list):  # a link: one from outside comes with whatever is wired to the blueprint
                origin = twin[value[0]]["class_type"]
                if origin in ids:
                    wanted[key] = [ids[origin], value[1]]
            else:
                wanted[key] = about.values.get((kind, key), value)
        assert inputs == wanted


def test_the_inputs_and_outputs_are_those_that_a_graph_needs():
    train, compare = (stored(name)["definitions"]["subgraphs"][0] for name in (NAMES[1], NAMES[0]))
    assert {each["name"]: each["type"] for each in train["inputs"]} == {
        "model": "MODEL", "clip": "CLIP", "vae": "VAE", "reward": "MIXGRPO_REWARD", "watch": "MIXGRPO_REWARD"
    }  # fmt: skip
    assert [each["name"] for each in train["outputs"]] == ["model", "base_model", "run"]
    assert [each["name"] for each in compare["inputs"]] == ["base", "tuned", "clip", "vae", "reward"]
    assert [each["name"] for each in compare["outputs"]] == ["grid", "text"]
    algorithm = next(node for node in train["nodes"] if node["type"] == "MixGRPO_Algorithm")
    assert algorithm["widgets_values"][:3] == ["MixGRPO SD3.5", preset("MixGRPO SD3.5").rollout.steps, 3]


def test_the_pictures_of_the_training_inside_make_no_preview(drawn):
    load(drawn, stored(NAMES[1]))
    kept = drawn.evaluate(
        """
        () => {
          const { app } = window;
          const [outer] = app.graph._nodes;
          const train = outer.subgraph.nodes.find((node) => node.comfyClass === "MixGRPO_Train");
          const id = `${outer.id}:${train.id}`;
          const images = [{ filename: "none.png", subfolder: "", type: "output" }];
          const output = { images, run_id: ["none-11111111"] };
          app.api.dispatchCustomEvent("executed", { node: id, display_node: id, prompt_id: "none", output });
          return app.nodeOutputs[`${outer.subgraph.id}:${train.id}`];
        }
        """
    )
    assert kept == {"run_id": ["none-11111111"]}


def test_displays_end_with_the_graph_that_they_were_in(drawn):
    listening = """
    async () => {
      const style = [...document.querySelectorAll("link")].find((each) => each.href.includes("runDisplay.css"));
      const url = new URL("../comfy.mjs", style.href).href;
      const { runs } = await import(url);
      runs.changed();
      await new Promise((done) => setTimeout(done, 50));
      return runs.listeners.size;
    }
    """
    load(drawn, stored(NAMES[1]))
    before = drawn.evaluate(listening)
    assert before >= 2, "Train and Wait"
    for _ in range(3):
        load(drawn, stored(NAMES[1]))
    assert drawn.evaluate(listening) == before
    drawn.evaluate(
        "() => { window.app.graph._nodes[0].subgraph.nodes.find((n) => /Train/.test(n.comfyClass)).clone(); }"
    )
    assert drawn.evaluate(listening) == before
