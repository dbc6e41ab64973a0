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
    started = [each for each in told if "starts again" in each]
    # ComfyUI runs the two loaders in any order: the one that looks up both, or first the one that looks up the pack.
    both, one_by_one = ["comfy_extras.nodes_sd3, lending"], ["lending", "comfy_extras.nodes_sd3"]
    assert [each.split("it starts again with ")[1].split(", too.")[0] for each in started] in (both, one_by_one)
    assert "'Test_Lent" in started[0]
    boots = [event for event in events if event["type"] == "stage" and event["name"] == "boot"]
    assert len(boots) == 1 + len(started)
    assert not [path for path in server.folder(run_id).iterdir() if path.name == "temp"]
