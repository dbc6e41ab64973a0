"""A training that is refused ends the whole template: no images of before, as if all was well."""

import json
import uuid

import pytest

from scripts.comfyui_server import ROOT

TWINS = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (ROOT / "workflows" / "api").glob("*.json")
}
TRAINING = sorted(name for name, graph in TWINS.items() if "MixGRPO_Train" in {n["class_type"] for n in graph.values()})


def before(graph, node_id):
    """The nodes that a node depends on, itself among them."""
    links = [value for value in graph[node_id]["inputs"].values() if isinstance(value, list)]
    return {node_id}.union(*(before(graph, source) for source, _ in links))


@pytest.mark.parametrize("name", TRAINING)
def test_every_image_depends_on_the_training(name):
    graph = TWINS[name]
    saved = [key for key, node in graph.items() if node["class_type"] == "SaveImage"]
    assert saved
    for key in saved:
        assert "MixGRPO_Train" in {graph[each]["class_type"] for each in before(graph, key)}


@pytest.mark.parametrize("name", ["shapes_alignment", "hybrid_inference"])
def test_a_refused_value_is_an_http_400(server, name):
    status, answer = post(server, name, iterations=0)
    assert status == 400 and answer["error"]["type"] == "prompt_outputs_failed_validation"


@pytest.mark.parametrize("name", ["shapes_alignment", "hybrid_inference"])
def test_a_training_that_is_refused_when_it_starts_leaves_no_images(server, name):
    status, answer = post(server, name, run_name=" ")
    if status == 200:
        entry = server.result(answer["prompt_id"])
        assert entry["status"]["status_str"] == "error" and entry["outputs"] == {}
    else:
        assert status == 400


def post(server, name, **changes):
    graph = json.loads(json.dumps(TWINS[name]))
    (train,) = (node for node in graph.values() if node["class_type"] == "MixGRPO_Train")
    train["inputs"] |= changes
    return server.request("POST", "/prompt", {"prompt": graph, "prompt_id": str(uuid.uuid4())})
