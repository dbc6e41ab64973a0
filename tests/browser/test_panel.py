"""The run panel as people use it, with real trainings: followed, left and found again, cancelled, resumed, used."""

import json
import re
import time

import pytest

from scripts.browser import wait_until_ready
from scripts.comfyui_server import ROOT, ServerError
from tests.browser.written_runs import write_run
from tests.comfyui.graphs import tiny

# A row's, or the open run's, number of finished iterations.
ITERATION = "([...document.querySelectorAll('.mixgrpo-facts dd')][0]?.textContent ?? '').split(' of ')[0]"
STRANGE = '<img src=x onerror="window.hacked=1">'
SELECT = """
(type) => {
  const { app } = window;
  const node = app.graph._nodes.find((n) => n.type === type);
  app.canvas.selectNode(node);
  return node.id;
}
"""
LORA = """
() => {
  const { graph } = window.app;
  const loader = graph._nodes.find((n) => n.type === "LoraLoaderModelOnly");
  const link = graph.getLink?.(loader.inputs[0].link) ?? graph.links[loader.inputs[0].link];
  const origin = graph.getNodeById(link.origin_id);
  const onward = loader.outputs[0].links.map((id) => graph.getLink?.(id) ?? graph.links[id]);
  return {
    name: loader.widgets.find((w) => w.name === "lora_name").value,
    from: `${origin.type} ${origin.outputs[link.origin_slot].name}`,
    to: onward.map((each) => graph.getNodeById(each.target_id).type),
  };
}
"""

LISTED = """
() => window.app.graph._nodes.find((n) => n.type === "LoraLoaderModelOnly")
  .widgets.find((w) => w.name === "lora_name").options.values
"""
LOAD_AGAIN = "async () => { await window.app.loadGraphData(window.app.graph.serialize(), false, false); }"
LOADERS = "() => window.app.graph._nodes.filter((n) => n.type === 'LoraLoaderModelOnly').length"
MODEL_TO = """
() => {
  const { graph } = window.app;
  const output = graph._nodes.find((n) => n.type === "MixGRPO_TinyModel").outputs[0];
  const links = output.links.map((id) => graph.getLink?.(id) ?? graph.links[id]);
  return links.map((link) => graph.getNodeById(link.target_id).type);
}
"""

# What can only be seen by scrolling sideways, but for what scrolls by itself.
STICKING_OUT = """
() => [...document.querySelectorAll(".mixgrpo-wide *")]
  .filter((e) => e.checkVisibility() && e.getBoundingClientRect().right > window.innerWidth + 1)
  .filter((e) => !e.closest(".mixgrpo-strips, .mixgrpo-wideTable, .mixgrpo-columns"))
  .map((e) => e.className?.baseVal ?? e.className)
"""


class Panel:
    """A person at the panel."""

    def __init__(self, page):
        self.page = page
        self.box = page.locator("[data-testid=mixgrpo-panel]")

    def open(self):
        self.page.evaluate("() => { window.app.extensionManager.sidebarTab.activeSidebarTabId = 'mixgrpo'; }")
        self.box.wait_for()
        self.to_list()
        self.box.get_by_label("Search runs").fill("")  # it keeps what was searched for

    def to_list(self):
        if self.box.get_by_label("All runs").count():
            self.box.get_by_label("All runs").click()

    def row(self, run_id):
        return self.box.locator(f".mixgrpo-row[data-run='{run_id}']")

    def open_run(self, run_id):
        self.to_list()
        self.row(run_id).locator(".mixgrpo-open").click()
        self.box.get_by_test_id("mixgrpo-state").wait_for()

    def button(self, name):
        return self.box.get_by_role("button", name=name, exact=True)

    def more(self):
        self.box.locator(".mixgrpo-more > summary").click()

    def wait_for_iteration(self, number):
        self.page.wait_for_function(f"() => Number({ITERATION}) >= {number}", timeout=240_000)
        return int(self.page.evaluate(f"() => Number({ITERATION})"))

    def wait_for_state(self, state):
        self.box.locator(f".mixgrpo-head[data-state='{state}']").wait_for(timeout=240_000)


@pytest.fixture
def panel(server, page):
    page.messages.clear()
    panel = Panel(page)
    panel.open()
    yield panel
    for run in server.get("/mixgrpo/runs?state=queued,waiting,running")["runs"]:  # none outlives a test that failed
        server.post(f"/mixgrpo/runs/{run['run_id']}/cancel")
    # Of the pack, and not the frontend's own question to a registry, which an offline server forbids.
    ours = [(kind, text) for kind, text in page.messages if "mixgrpo" in text.lower() and "api.comfy.org" not in text]
    assert [text for kind, text in ours if kind in ("error", "pageerror")] == []


def start(server, name, iterations, **settings):
    """A detached training of the tiny model, without a browser; its run id."""
    widgets = {"checkpoint_every": 5, "evaluate_every": 10, "evaluate_images": 4, **settings}
    graph = tiny(name, iterations=iterations, mode="detached", if_exists="restart", **widgets)
    return server.run(graph)["train"]["run_id"][0]


def test_a_run_from_its_first_numbers_to_its_lora_in_a_graph(server, panel):
    run_id = start(server, f"followed {STRANGE}", 2000)
    panel.row(run_id).wait_for(timeout=60_000)
    panel.open_run(run_id)
    follow_through_a_reload_and_a_restart(server, panel, run_id)
    stopped = cancel(panel)
    panel.button("Resume").click()
    panel.wait_for_state("running")
    panel.wait_for_iteration(stopped + 2)
    stopped = cancel(panel)
    go_on_longer(server, panel, run_id, stopped)
    lora = save_its_lora(server, panel, run_id)
    cancel(panel)
    leave_its_wires_to_a_training(panel)
    put_it_before_a_sampler(panel)
    use_its_lora(server, panel, lora)
    assert panel.page.evaluate("() => window.hacked") is None


def follow_through_a_reload_and_a_restart(server, panel, run_id):
    """Its numbers move, with the server that started it and with another one."""
    before = panel.wait_for_iteration(2)
    assert panel.wait_for_iteration(before + 2) > before
    assert panel.box.locator(".u-over").count(), "there is a chart"
    panel.box.get_by_text("Denoising axis").click()
    panel.box.get_by_role("img", name=re.compile("Window: step")).wait_for()
    assert STRANGE in panel.box.inner_text()

    panel.page.reload(wait_until="domcontentloaded")
    wait_until_ready(panel.page)
    panel.open()
    panel.row(run_id).wait_for(timeout=60_000)
    panel.open_run(run_id)
    before = panel.wait_for_iteration(before + 2)

    server.stop()
    server.start()
    assert panel.wait_for_iteration(before + 4) > before
    panel.page.messages[:] = [each for each in panel.page.messages if "net::ERR_CONNECTION" not in each[1]]


def cancel(panel):
    """The iteration that it stopped at."""
    panel.button("Cancel").click()
    panel.wait_for_state("cancelled")
    assert "Its checkpoint holds" in panel.box.get_by_test_id("mixgrpo-state").inner_text()
    return int(panel.page.evaluate(f"() => Number({ITERATION})"))


def go_on_longer(server, panel, run_id, stopped):
    panel.button("Continue longer").click()
    dialog = panel.page.get_by_role("dialog")
    dialog.locator("input").fill("2200")
    dialog.locator("input").press("Enter")
    panel.wait_for_state("running")
    panel.wait_for_iteration(stopped + 2)
    assert server.get(f"/mixgrpo/runs/{run_id}")["iterations"] == 2200


def save_its_lora(server, panel, run_id):
    """The file's name."""
    panel.button("Save LoRA now").click()
    panel.page.wait_for_function(
        "() => [...document.querySelectorAll('a[download]')].some((a) => a.textContent === 'LoRA')"
    )
    files = server.get(f"/mixgrpo/runs/{run_id}")["files"]
    lora = next(file for file in files if file["filename"].endswith(".safetensors"))
    assert server.view(lora)
    return lora["filename"]


def use_its_lora(server, panel, lora):
    """In a graph of stock nodes, which samples with it."""
    workflow = json.loads((ROOT / "workflows" / "compare_models.json").read_text(encoding="utf-8"))
    panel.page.evaluate("async (w) => { await window.app.loadGraphData(w, true, true); }", workflow)
    panel.page.evaluate(SELECT, "MixGRPO_TinyModel")
    panel.button("Use this LoRA").click()
    panel.page.wait_for_function("() => window.app.graph._nodes.some((n) => n.type === 'LoraLoaderModelOnly')")
    put = panel.page.evaluate(LORA)
    assert put["name"].replace("\\", "/") == f"mixgrpo/{lora}"
    assert put["from"] == "MixGRPO_TinyModel model" and put["to"]
    with panel.page.expect_response(lambda it: it.url.endswith("/prompt") and it.request.method == "POST") as answer:
        panel.page.evaluate("() => window.app.queuePrompt(0)")
    outputs = server.wait(answer.value.json()["prompt_id"])["outputs"]
    assert any(values.get("images") for values in outputs.values())
    panel.page.evaluate(LOAD_AGAIN)
    assert panel.page.evaluate(LORA)["name"] in panel.page.evaluate(LISTED), "undo makes the nodes anew"


def leave_its_wires_to_a_training(panel):
    workflow = json.loads((ROOT / "workflows" / "shapes_alignment.json").read_text(encoding="utf-8"))
    panel.page.evaluate("async (w) => { await window.app.loadGraphData(w, true, true); }", workflow)
    panel.page.evaluate(SELECT, "MixGRPO_TinyModel")
    before = panel.page.evaluate(MODEL_TO)
    panel.button("Use this LoRA").click()
    panel.page.wait_for_function("() => window.app.graph._nodes.some((n) => n.type === 'LoraLoaderModelOnly')")
    assert "MixGRPO_Train" in before and panel.page.evaluate(MODEL_TO) == [*before, "LoraLoaderModelOnly"]


def put_it_before_a_sampler(panel):
    workflow = json.loads((ROOT / "workflows" / "shapes_alignment.json").read_text(encoding="utf-8"))
    panel.page.evaluate("async (w) => { await window.app.loadGraphData(w, true, true); }", workflow)
    select = "(title) => { window.app.canvas.selectNode(window.app.graph._nodes.find((n) => n.title === title)); }"
    panel.page.evaluate(select, "Sample after")
    before = panel.page.evaluate(MODEL_TO)
    panel.button("Use this LoRA").click()
    panel.page.wait_for_function("() => window.app.graph._nodes.some((n) => n.type === 'LoraLoaderModelOnly')")
    put = panel.page.evaluate(LORA)
    assert (put["from"], put["to"]) == ("MixGRPO_ApplyRun base_model", ["KSampler"]), "its LoRA would act twice"
    assert panel.page.evaluate(MODEL_TO) == before, "other wires stay"
    for choose, which in ((SELECT, "LoraLoaderModelOnly"), (select, "Sample after")):
        panel.page.evaluate(choose, which)
        with panel.page.expect_response("**/object_info/LoraLoaderModelOnly"):
            panel.button("Use this LoRA").click()
        panel.page.wait_for_timeout(500)
        assert panel.page.evaluate(LOADERS) == 1, "a second one would act twice"


def test_a_runs_workflow_opens_with_the_run_in_its_nodes(server, panel):
    graph = json.loads((ROOT / "workflows" / "shapes_alignment.json").read_text(encoding="utf-8"))
    run_id = "opened-11111111"
    (train,) = (str(node["id"]) for node in graph["nodes"] if node["type"] == "MixGRPO_Train")
    folder = write_run(server.output, run_id, "opened", created=time.time())
    (folder / "workflow.json").write_text(json.dumps({"workflow": graph, "prompt": None}))
    (folder / "queued.json").write_text(json.dumps({"node_id": train, "workflow_id": "another", "time": 1.0}))
    panel.row(run_id).wait_for()
    panel.open_run(run_id)
    panel.button("Open workflow").click()
    shown = panel.page.locator(".mixgrpo-on-node").get_by_text(run_id)
    shown.first.wait_for(timeout=60_000)
    assert shown.count() == 2, "on Train, and on Wait behind it"


def test_runs_are_found_renamed_and_deleted(server, panel):
    first, second = "one-11111111", "two-22222222"
    for run_id in (first, second):
        write_run(server.output, run_id, run_id, created=time.time())
    panel.row(first).wait_for()
    panel.row(second).wait_for()
    panel.box.get_by_label("Search runs").fill(second)
    panel.row(first).wait_for(state="detached")
    panel.open_run(second)
    panel.more()
    panel.button("Rename").click()
    dialog = panel.page.get_by_role("dialog")
    dialog.locator("input").fill(f"renamed {STRANGE}")
    dialog.locator("input").press("Enter")
    panel.box.get_by_text(f"renamed {STRANGE}").first.wait_for()
    assert server.get(f"/mixgrpo/runs/{second}")["name"] == f"renamed {STRANGE}"

    panel.button("Delete").click()
    panel.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    panel.box.get_by_label("Search runs").wait_for()
    panel.row(second).wait_for(state="detached")
    with pytest.raises(ServerError, match="404"):
        server.get(f"/mixgrpo/runs/{second}")
    assert not (server.output / "mixgrpo" / second).exists()
    assert panel.page.evaluate("() => window.hacked") is None


def test_the_list_stays_while_the_server_is_away_and_is_right_once_it_is_back(server, panel):
    there, found = "there-11111111", "found-22222222"
    write_run(server.output, there, there, created=time.time())
    panel.row(there).wait_for()
    lists = re.compile(r"/mixgrpo/runs(\?|$)")
    panel.page.route(lists, lambda route: route.fulfill(status=500, json={"error": "It is away."}))
    panel.box.get_by_label("Search runs").fill(found)
    panel.box.get_by_text("It is away.").wait_for()
    assert panel.row(there).count() == 1
    panel.page.unroute(lists)
    panel.page.messages[:] = [each for each in panel.page.messages if "500" not in each[1]]
    panel.page.evaluate("() => window.app.api.dispatchCustomEvent('reconnected')")
    panel.box.get_by_text("No run fits.").wait_for()


@pytest.mark.parametrize("width", [360, 1600])
def test_it_fits_narrow_and_wide_windows(server, panel, width):
    run_id = f"shown-{width:08d}"
    write_run(server.output, run_id, run_id, created=time.time())
    panel.row(run_id).wait_for()
    panel.open_run(run_id)
    usual = panel.page.viewport_size
    panel.page.set_viewport_size({"width": width, "height": 900})
    panel.button("Full screen").click()
    panel.page.wait_for_function(f"() => document.querySelector('.mixgrpo-wide').clientWidth === {width}")
    for tab in ("Curves", "Images", "Newest group", "Settings", "Log"):
        panel.box.get_by_role("tab", name=tab).click()
        panel.page.wait_for_timeout(300)
        assert panel.page.evaluate(STICKING_OUT) == [], tab
    panel.page.keyboard.press("Escape")
    panel.page.wait_for_function("() => !document.querySelector('.mixgrpo-wide')")
    panel.page.set_viewport_size(usual)


def test_a_side_bar_that_is_too_narrow_to_read_is_opened_in_full(server, page):
    usual = page.viewport_size
    page.evaluate("() => { window.app.extensionManager.sidebarTab.activeSidebarTabId = null; }")
    page.set_viewport_size({"width": 360, "height": 740})
    page.evaluate("() => { window.app.extensionManager.sidebarTab.activeSidebarTabId = 'mixgrpo'; }")
    page.wait_for_function("() => document.querySelector('.mixgrpo-wide')?.clientWidth === 360")
    page.get_by_label("Back into the side bar").click()
    page.set_viewport_size(usual)
