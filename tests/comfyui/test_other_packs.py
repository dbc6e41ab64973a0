"""Packs that need nodes of another pack or of ComfyUI, or leave the working directory; relative paths."""

import os
from pathlib import Path

import pytest

PACKS = Path(__file__).parent / "other_packs"


@pytest.fixture(scope="module")
def server(server_of, tmp_path_factory):
    with server_of(tmp_path_factory.mktemp("relative"), {path.name: path for path in PACKS.iterdir()}) as server:
        for name in ("base", "output", "input", "user"):
            folder = server.base if name == "base" else server.base / name
            server.arguments += [f"--{name}-directory", os.path.relpath(folder, server.comfyui)]
        server.start()
        yield server


def test_a_loader_may_look_up_and_expand_into_another_packs_nodes(server, graphs):
    graph = graphs.train("borrowed")
    graph["model"] = {"class_type": "Test_LooksUp", "inputs": {}}
    graph["vae"] = {"class_type": "Test_Expands", "inputs": {}}
    graph["wandering"] = {"class_type": "Test_Wandering", "inputs": {"reward": ["reward", 0]}}
    graph["train"]["inputs"]["reward"] = ["wandering", 0]
    run_id = server.run_id(server.outputs(graph))
    assert server.run(run_id)["state"] == "finished" and server.lora(run_id).exists()
    events = server.events(run_id)
    told = [event["message"] for event in events if event["type"] == "notice"]
    (started,) = [each for each in told if "starts again" in each]
    assert "'Test_Lent" in started and "it starts again with comfy_extras.nodes_sd3, lending, too." in started
    assert len([event for event in events if event["type"] == "stage" and event["name"] == "boot"]) == 2
    assert not [path for path in server.folder(run_id).iterdir() if path.name == "temp"]
