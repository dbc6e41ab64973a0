"""Train and Wait show their run inside themselves, and only they do."""

import json
import re

from scripts.browser import wait_until_ready
from scripts.comfyui_server import ROOT
from tests.browser.written_runs import write_run

TRAINED, TOLD, OTHER = (f"{digit}a6f0e0c-95c8-4c0e-9d0a-5d1f0f6f2c11" for digit in "123")  # ids of workflows
SHOWN = "() => [...document.querySelectorAll('.mixgrpo-on-node')].map((e) => e.innerText)"
SIZES = "() => window.app.graph._nodes.map((n) => [n.id, n.size[0], n.size[1]])"
BOXES = "() => [...document.querySelectorAll('.mixgrpo-on-node')].map((e) => e.offsetHeight)"
SAVED = "() => window.app.graph.serialize().nodes.map((n) => [n.type, JSON.stringify(n.widgets_values)])"
POSTED = "async () => (await window.app.graphToPrompt()).output"
PREVIEWS = """
(ids) => ids.map((id) => Boolean(window.app.nodeOutputs[id]?.images || window.app.graph.getNodeById(id).imgs))
"""
TAKE = """
async (run) => {
  const { runs } = await import("/extensions/comfyui-mixgrpo/comfy.mjs");
  runs.take(run);
  await new Promise((done) => setTimeout(done, 300));
}
"""
SHOW_RUN = "(runId) => { window.dispatchEvent(new CustomEvent('mixgrpo:show-run', { detail: { runId } })); }"
NONE = "Press Run: what it learns is shown here."
TOLD_RUN = "told-12345678"


def load(drawn, workflow_id, **train):
    """The shapes template as one workflow, with Train's widgets changed, and Train in the middle."""
    # A run that the server doesn't know would soon be taken for deleted.
    drawn.route(f"**/mixgrpo/runs/{TOLD_RUN}/history**", lambda route: route.fulfill(json={}))
    graph = json.loads((ROOT / "workflows" / "shapes_alignment.json").read_text(encoding="utf-8"))
    graph["id"] = workflow_id
    drawn.evaluate("async (graph) => { await window.app.loadGraphData(graph, true, true); }", graph)
    drawn.evaluate(
        """
        async (values) => {
          const { graph, canvas } = window.app;
          const set = (type, values) => {
            for (const node of graph._nodes.filter((n) => n.type === type)) {
              for (const widget of node.widgets) if (widget.name in values) widget.value = values[widget.name];
            }
          };
          set("MixGRPO_Train", values);
          set("MixGRPO_Algorithm", { group_size: 4, prompts_per_iteration: 1, updates: 1 });
          set("EmptySD3LatentImage", { batch_size: 1 });
          const train = graph._nodes.find((n) => n.type === "MixGRPO_Train");
          Object.assign(canvas.ds, { scale: 1, offset: [400 - train.pos[0], 100 - train.pos[1]] });
          canvas.setDirty(true, true);
          await new Promise((done) => setTimeout(done, 600));
        }
        """,
        train,
    )


def a_run(**changes):
    """What the server would tell of a run that the workflow's Train node has started."""
    train = next(
        key
        for key, node in json.loads((ROOT / "workflows" / "api" / "shapes_alignment.json").read_text()).items()
        if node["class_type"] == "MixGRPO_Train"
    )
    about = {
        "run_id": TOLD_RUN,
        "name": "told",
        "created": 4e9,
        "images": [],
        "files": [],
        "folder": "",
        "log": "",
    }
    return {**about, "workflow_id": TOLD, "train_node_id": train, "state": "running", **changes}


def test_a_run_is_shown_while_it_trains_and_when_it_has_ended(server, drawn):
    load(drawn, TRAINED, iterations=2, evaluate_every=1, evaluate_images=1, run_name="on its nodes")
    before = [drawn.evaluate(look) for look in (SAVED, POSTED, SIZES)]
    write_run(server.output, "older-00000000", "An older run")
    drawn.evaluate(SHOW_RUN, "older-00000000")
    shown = drawn.locator(".mixgrpo-head .mixgrpo-name")
    shown.filter(has_text="An older run").wait_for()
    with drawn.expect_response(lambda it: it.url.endswith("/prompt") and it.request.method == "POST") as answer:
        drawn.evaluate("() => window.app.queuePrompt(0)")
    shown.filter(has_text="on its nodes").wait_for(timeout=60_000)  # the panel has gone on to it
    outputs = server.wait(answer.value.json()["prompt_id"])["outputs"]
    ours = [key for key, values in outputs.items() if "run_id" in values]
    (run_id,) = {outputs[key]["run_id"][0] for key in ours}
    # Its pictures are there for scripts, and no preview that grows the node.
    assert all(outputs[key]["images"] for key in ours)
    drawn.wait_for_function(f"() => ({SHOWN})().every((text) => text.includes('LoRA: '))", timeout=30_000)
    drawn.wait_for_timeout(500)
    assert not any(drawn.evaluate(PREVIEWS, ours))
    sizes = {str(node): size for node, *size in drawn.evaluate(SIZES)}
    assert all(sizes[str(node)] == size for node, *size in before[2] if str(node) in ours)
    for _ in range(2):
        train, wait = drawn.evaluate(SHOWN)
        assert train == wait and run_id in train and f"LoRA: mixgrpo/{run_id}.safetensors" in train
        assert re.search(r"On prompts it didn.t train on: \d.* → \d.* \([+−]\d.*±\s\d.*\), .*Took \d", train)
        assert drawn.evaluate(BOXES) == [120, 120]
        # It knows its run after a reload, too.
        drawn.reload(wait_until="domcontentloaded")
        wait_until_ready(drawn)
        load(drawn, TRAINED, iterations=2, evaluate_every=1, evaluate_images=1, run_name="on its nodes")
        drawn.wait_for_function(f"() => ({SHOWN})().every((text) => text.includes('LoRA: '))", timeout=30_000)
    assert [drawn.evaluate(look) for look in (SAVED, POSTED, SIZES)] == before


STATES = [
    ({"state": "queued"}, "queued"),
    ({"state": "running", "stage": "train", "iteration": 3, "iterations": 9}, "training, 3 of 9"),
    ({"state": "cancelled", "checkpoint": 4}, "Cancelled. Its checkpoint holds 4 iterations"),
    ({"state": "failed", "message": "<img src=x onerror=x>\nTraceback"}, "Failed: <img src=x onerror=x>"),
    ({"state": "dead"}, "gone without a word"),
]


def test_each_state_says_so(page):
    load(page, TOLD)
    for run, words in STATES:
        page.evaluate(TAKE, a_run(**run))
        train, wait = page.evaluate(SHOWN)
        assert words in train and words in wait and "Traceback" not in train
        assert page.locator(".mixgrpo-on-node img").count() == 0


def test_a_detached_run_says_so(page):
    load(page, TOLD)
    page.evaluate(TAKE, a_run(stage="train", iteration=3, iterations=9, detached=True))
    assert "in the background" in page.evaluate(SHOWN)[0]


def test_the_runs_id_opens_it_in_the_panel_and_can_be_copied(drawn):
    load(drawn, TOLD)
    drawn.evaluate(TAKE, a_run())
    drawn.evaluate(
        """
        () => {
          window.opened = [];
          window.addEventListener("mixgrpo:show-run", (event) => window.opened.push(event.detail.runId));
          navigator.clipboard.writeText = async (text) => window.opened.push(`copied ${text}`);
        }
        """
    )
    display = drawn.locator(".mixgrpo-on-node").first
    display.get_by_title("Copy the run's id").click()
    display.get_by_text(TOLD_RUN).click()
    assert drawn.evaluate("() => window.opened") == [f"copied {TOLD_RUN}", TOLD_RUN]


def test_another_workflows_node_of_the_same_id_shows_nothing(drawn):
    load(drawn, OTHER)
    drawn.evaluate(TAKE, a_run())
    train = a_run()["train_node_id"]
    told = {"workflow_id": TOLD, "node_id": train, "run_id": TOLD_RUN}
    drawn.evaluate("(told) => window.app.api.dispatchCustomEvent('mixgrpo.node', told)", told)
    drawn.wait_for_timeout(500)
    assert all(NONE in text for text in drawn.evaluate(SHOWN))
    # The store asks the server for what it is told of; no server knows this run.
    told = {**told, "workflow_id": OTHER}
    drawn.evaluate("(told) => window.app.api.dispatchCustomEvent('mixgrpo.node', told)", told)
    drawn.evaluate(TAKE, a_run())
    assert all(TOLD_RUN in text for text in drawn.evaluate(SHOWN))


def test_what_is_no_runs_id_is_asked_for_nowhere(page):
    load(page, OTHER)
    asked = []
    listen = lambda request: asked.append(request.url)  # noqa: E731
    page.on("request", listen)
    page.evaluate(
        """
        async () => {
          const node = window.LiteGraph.createNode("MixGRPO_Wait");
          node.widgets.find((widget) => widget.name === "run_id").value = "../../mixgrpo-strange";
          window.app.graph.add(node);
          await new Promise((done) => setTimeout(done, 500));
        }
        """
    )
    page.remove_listener("request", listen)
    assert [url for url in asked if "strange" in url] == []
