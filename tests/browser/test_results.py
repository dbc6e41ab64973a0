"""Score shows its table on the node, as the canvas draws nodes and as Nodes 2.0 does; no saved file holds it."""

import json

from scripts.comfyui_server import ROOT

SHOWN = "() => [...document.querySelectorAll('pre')].map((e) => e.textContent).filter((t) => t.includes('rank'))"
SAVED = "() => window.app.graph.serialize().nodes.find((n) => n.type === 'MixGRPO_Score').widgets_values"
POSTED = """
async () => {
  const { output } = await window.app.graphToPrompt();
  return Object.values(output).find((n) => n.class_type === "MixGRPO_Score").inputs;
}
"""


def test_score_shows_its_table_and_no_file_holds_it(server, drawn):
    workflow = json.loads((ROOT / "workflows" / "rank_images.json").read_text(encoding="utf-8"))
    drawn.evaluate("async (w) => { await window.app.loadGraphData(w, true, true); }", workflow)
    saved, posted = drawn.evaluate(SAVED), drawn.evaluate(POSTED)
    assert drawn.evaluate(SHOWN) == []
    with drawn.expect_response(lambda it: it.url.endswith("/prompt") and it.request.method == "POST") as answer:
        drawn.evaluate("() => window.app.queuePrompt(0)")
    drawn.wait_for_function(f"() => ({SHOWN})().length === 1", timeout=120_000)
    (text,) = drawn.evaluate(SHOWN)
    # A node shows its result while others are still at work.
    entry = server.wait(answer.value.json()["prompt_id"])
    node_id = next(key for key, node in entry["prompt"][2].items() if node["class_type"] == "MixGRPO_Score")
    assert [text] == entry["outputs"][node_id]["text"]
    assert drawn.locator("pre", has_text="rank").is_visible()
    assert drawn.evaluate(SAVED) == saved and drawn.evaluate(POSTED) == posted
