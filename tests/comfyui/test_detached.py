"""Detached runs: other prompts run meanwhile, a Wait node waits, and the same graph finds its run again."""

import json
import urllib.parse
import urllib.request

import pytest

from scripts.comfyui_server import ROOT


def wait(run_id, timeout=0):
    return {"wait": {"class_type": "MixGRPO_Wait", "inputs": {"run_id": run_id, "timeout": timeout}}}


@pytest.fixture(scope="module")
def at_work(server, graphs):
    """The id of a run that trains in the background for a minute."""
    run_id = server.start_run(graphs.train("background", seconds=0.3, iterations=200))
    server.wait_for_iteration(run_id, 1)
    return run_id


def test_other_prompts_run_while_a_detached_run_trains(server, graphs, at_work):
    run_id = at_work
    assert server.outputs(graphs.stock(), 60)["save"]["images"]
    assert server.run(run_id)["state"] == "running"
    # The same graph joins the run instead of starting a second one.
    worker = server.run(run_id)["pid"]
    assert server.start_run(graphs.train("background", seconds=0.3, iterations=200)) == run_id
    assert server.run(run_id)["pid"] == worker
    # A Wait node that gives up leaves the run alone.
    assert "isn't finished after 1 s" in server.error(wait(run_id, 1), 60)["exception_message"]
    assert server.run(run_id)["state"] == "running"


def test_dead_worker_is_noticed_by_a_waiting_node(server, graphs, at_work):
    prompt = server.queue(wait(at_work))
    server.kill_worker(at_work)
    error = graphs.error_of(server.result(prompt, 30))
    assert "gone without a word" in error["exception_message"] and "worker.log" in error["exception_message"]
    assert server.run(at_work)["state"] == "dead"


def test_finished_run_is_returned_not_repeated(server, first_graph, first_run):
    server.wait(lambda: "delete" in server.run(first_run[1])["actions"], "the end of its worker", 30)
    before = server.run(first_run[1])
    outputs = server.outputs(first_graph(), 60)
    assert server.run_id(outputs) == first_run[1]
    assert outputs["train"] == first_run[0]["train"]
    # How often a checkpoint is saved doesn't change what is trained.
    graph = first_graph()
    graph["train"]["inputs"]["checkpoint_every"] = 7
    assert server.run_id(server.outputs(graph, 60)) == first_run[1]
    after = server.run(first_run[1])
    assert after.pop("queued") > before.pop("queued") and after == before


def test_two_submissions_at_the_same_moment_are_one_run_and_a_restart_another(server, graphs):
    graph = graphs.train("double", mode="detached")
    graph["twin"] = {"class_type": "MixGRPO_Train", "inputs": dict(graph["train"]["inputs"])}
    outputs = server.outputs(graph, 60)
    ids = {outputs[node]["text"][0].split()[1].rstrip(":") for node in ("train", "twin")}
    assert len(ids) == 1
    run_id = ids.pop()
    assert f"mixgrpo/{run_id}.safetensors" in server.outputs(wait(run_id))["wait"]["text"][0]
    assert len([e for e in server.events(run_id) if e.get("name") == "boot"]) == 1
    assert not server.folder(f"{run_id}-2").exists()

    lora = server.lora(run_id).read_bytes()
    again = server.run_id(server.outputs(graphs.train("double", if_exists="restart")))
    assert again == f"{run_id}-2"
    # The same seed gives the same LoRA but for the run's name in it; the old file is as it was.
    assert server.lora(run_id).read_bytes() == lora
    assert graphs.same_tensors(server.lora(run_id), server.lora(again))
    # From now on the same graph means the newest one.
    assert server.run_id(server.outputs(graphs.train("double"), 60)) == again


def test_template_gives_the_pictures_after_a_detached_training_too(server):
    graph = json.loads((ROOT / "workflows" / "api" / "shapes_alignment.json").read_text(encoding="utf-8"))
    by_title = {node["_meta"]["title"]: node_id for node_id, node in graph.items()}
    train, waits = by_title["Train"], by_title["Wait for the training"]
    graph[train]["inputs"] |= {"mode": "detached", "run_name": "template", "iterations": 2, "evaluate_every": 0}
    graph[by_title["Algorithm"]]["inputs"] |= {"group_size": 4, "prompts_per_iteration": 1}
    outputs = server.outputs(graph)
    assert "Started in the background" in outputs[train]["text"][0]
    run_id = outputs[train]["run_id"][0]
    assert outputs[waits]["run_id"] == [run_id] and f"LoRA: mixgrpo/{run_id}.safetensors" in outputs[waits]["text"][0]
    before, after = (outputs[by_title[title]]["images"] for title in ("Before", "After"))
    assert len(before) == len(after) == 8
    assert picture(server, before[0]) != picture(server, after[0])


def picture(server, image):
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/view?{urllib.parse.urlencode(image)}") as answer:
        return answer.read()
