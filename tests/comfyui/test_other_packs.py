"""Packs that need another pack's nodes, or leave the working directory, on a server with relative paths."""

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


def notices(server, run_id):
    return [event["message"] for event in server.events(run_id) if event["type"] == "notice"]


def test_a_loader_may_look_up_and_expand_into_another_packs_nodes(server, graphs):
    graph = graphs.train("borrowed")
    graph["model"] = {"class_type": "Test_LooksUp", "inputs": {}}
    graph["vae"] = {"class_type": "Test_Expands", "inputs": {}}
    graph["wandering"] = {"class_type": "Test_Wandering", "inputs": {"reward": ["reward", 0]}}
    graph["train"]["inputs"]["reward"] = ["wandering", 0]
    run_id = server.run_id(server.outputs(graph))
    assert server.run(run_id)["state"] == "finished" and server.lora(run_id).exists()
    started = [each for each in notices(server, run_id) if "starts again" in each]
    assert len(started) == 1
    assert "'Test_Lent" in started[0] and "it starts again with lending, too." in started[0]
    starts = [event for event in server.events(run_id) if event["type"] == "stage" and event["name"] == "boot"]
    assert len(starts) == 2
    assert not [path for path in server.folder(run_id).iterdir() if path.name == "temp"]


def test_what_no_node_type_tells_starts_again_with_all_packs(server, graphs):
    graph = graphs.train("all packs")
    graph["model"] = {"class_type": "Test_Lists", "inputs": {}}
    run_id = server.run_id(server.outputs(graph))
    assert server.run(run_id)["state"] == "finished"
    (started,) = [each for each in notices(server, run_id) if "starts again" in each]
    assert "'lent'" in started and "it starts again with lending, wandering, too." in started
