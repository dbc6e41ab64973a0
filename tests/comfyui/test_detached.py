"""Detached runs: other prompts run meanwhile, the browser is told, and the same graph finds its run again."""

import pytest


def test_other_prompts_run_while_a_detached_run_trains(server, graphs):
    run_id = server.start_run(graphs.train("background", seconds=0.3, iterations=60))
    server.wait_for_iteration(run_id, 1)
    outputs = server.outputs(graphs.stock(), 30)
    assert outputs["save"]["images"]
    assert server.run(run_id)["state"] == "running"
    # The same graph joins the run instead of starting a second one.
    worker = server.run(run_id)["pid"]
    assert server.start_run(graphs.train("background", seconds=0.3, iterations=60)) == run_id
    assert server.run(run_id)["pid"] == worker
    assert server.request("POST", f"/mixgrpo/runs/{run_id}/cancel")[0] == 200
    server.wait_for_state(run_id, "cancelled")


def test_progress_reaches_an_open_socket(server, graphs):
    with server.socket() as messages:
        run_id = server.start_run(graphs.train("told"))
        server.wait_for_state(run_id, "finished")
        server.wait(lambda: any(m["status"]["state"] == "finished" for m in messages(run_id)), "the last message", 10)
    told = [event for message in messages(run_id) for event in message["events"]]
    assert told == server.events(run_id)


def test_wait_node_waits_and_gives_the_result(server, graphs):
    run_id = server.start_run(graphs.train("awaited", seconds=0.2, iterations=3))
    wait = {"wait": {"class_type": "MixGRPO_Wait", "inputs": {"run_id": run_id, "timeout": 0}}}
    outputs = server.outputs(wait)
    assert server.run(run_id)["state"] == "finished"
    assert f"mixgrpo/{run_id}.safetensors" in outputs["wait"]["text"][0]
    # A finished run: no waiting, the same keys.
    assert server.outputs(wait, 15)["wait"].keys() == outputs["wait"].keys()


def test_wait_node_gives_up_after_its_timeout_while_the_run_goes_on(server, graphs):
    run_id = server.start_run(graphs.train("patience", seconds=0.3, iterations=100))
    error = server.error({"wait": {"class_type": "MixGRPO_Wait", "inputs": {"run_id": run_id, "timeout": 1}}}, 30)
    assert "isn't finished after 1 s" in error["exception_message"]
    assert server.run(run_id)["state"] in ("queued", "running")
    server.request("POST", f"/mixgrpo/runs/{run_id}/cancel")
    server.wait_for_state(run_id, "cancelled")


@pytest.fixture(scope="module")
def twice(server, graphs):
    """(run id of the first submission, of the second, the worker's pid after each)."""
    found = []
    for _ in range(2):
        run_id = server.run_id(server.outputs(graphs.train("twice")))
        found.append((run_id, server.run(run_id)["pid"]))
    return found


def test_finished_run_is_returned_not_repeated(twice):
    assert twice[0] == twice[1]


def test_other_checkpoint_interval_is_the_same_run_and_other_seed_another(server, graphs, twice):
    assert server.run_id(server.outputs(graphs.train("twice", checkpoint_every=7), 15)) == twice[0][0]
    other = server.start_run(graphs.train("twice", seed=1))
    assert other != twice[0][0]
    server.wait_for_state(other, "finished")


def test_restart_trains_again_beside_the_old_run(server, graphs, twice):
    again = server.run_id(server.outputs(graphs.train("twice", if_exists="restart")))
    assert again == f"{twice[0][0]}-2"
    assert server.run(twice[0][0])["state"] == "finished"
    assert server.lora(again).read_bytes() != b"" and server.lora(twice[0][0]).exists()
    # From now on the same graph means the newest one.
    assert server.run_id(server.outputs(graphs.train("twice"), 15)) == again


def test_two_submissions_at_the_same_moment_are_one_run(server, graphs):
    graph = graphs.train("double", mode="detached")
    graph["twin"] = {"class_type": "MixGRPO_Train", "inputs": dict(graph["train"]["inputs"])}
    outputs = server.outputs(graph, 30)
    ids = {outputs[node]["text"][0].split()[1].rstrip(":") for node in ("train", "twin")}
    assert len(ids) == 1
    run_id = ids.pop()
    server.wait_for_state(run_id, "finished")
    assert len([e for e in server.events(run_id) if e.get("name") == "boot"]) == 1
    assert not [r for r in server.get("/mixgrpo/runs")["runs"] if r["run_id"].startswith(f"{run_id}-")]
