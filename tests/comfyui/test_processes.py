"""A training in two processes on the real server: one run, one LoRA, one voice."""

import os
import signal

import psutil


def test_two_processes_train_one_run(server, graphs):
    graph = graphs.train("two processes", processes=2, iterations=2)
    graph["algorithm"]["inputs"]["prompts_per_iteration"] = 2
    text = server.outputs(graph)["train"]["text"][0]
    assert "finished, iteration 2 of 2" in text
    run_id = server.get("/mixgrpo/runs")["runs"][0]["run_id"]
    events = server.events(run_id)
    assert [event["iteration"] for event in events if event["type"] == "iteration"] == [1, 2]
    assert [event["type"] for event in events].count("done") == 1
    assert server.lora(run_id).exists()
    left = {path.name for path in server.folder(run_id).iterdir()}
    assert not {name for name in left if name.startswith(("temp", "rank-"))}


def test_a_process_that_fails_is_the_runs_reason(server, graphs):
    graph = graphs.train("second fails", processes=2, iterations=50)
    graph["reward"]["inputs"]["fail_rank"] = 1
    graph["algorithm"]["inputs"]["prompts_per_iteration"] = 2
    error = server.error(graph)["exception_message"]
    assert "Process 1:" in error and "The second light went out." in error
    assert server.get("/mixgrpo/runs")["runs"][0]["state"] == "failed"


def test_a_process_that_fails_while_it_loads_is_the_runs_reason(server, graphs):
    """The launcher then stops the others, as a user would: that is no wish to cancel the run."""
    graph = graphs.train("second can't load", processes=2, iterations=2)
    graph["reward"]["inputs"] |= {"broken_rank": 1, "fail_at": 2}
    graph["algorithm"]["inputs"]["prompts_per_iteration"] = 2
    message = server.error(graph)["exception_message"]
    assert "failed: Process 1: Node reward (Test_Reward): The second lamp is missing." in message
    assert "in load" in message, "the loader's own traceback"
    run = server.get("/mixgrpo/runs")["runs"][0]
    assert (run["state"], run["node_id"]) == ("failed", "reward")

    graph["train"]["inputs"]["processes"] = 1  # the same run, alone: it fails by itself
    message = server.error(graph)["exception_message"]
    assert "The red light went out at call 2." in message and "lamp" not in message


def test_a_process_that_is_killed_while_it_loads_fails_the_run(server, graphs):
    graph = graphs.train("second is killed", processes=2, iterations=2)
    graph["reward"]["inputs"] |= {"broken_rank": 1, "kills": True}
    graph["algorithm"]["inputs"]["prompts_per_iteration"] = 2
    message = server.error(graph)["exception_message"]
    assert "A process of the training ended without a word" in message
    assert server.get("/mixgrpo/runs")["runs"][0]["state"] == "failed"


def test_cancel_stops_all_processes_and_a_single_one_goes_on(server, graphs):
    graph = graphs.train("cancelled together", processes=2, iterations=40, seconds=0.2)
    graph["algorithm"]["inputs"]["prompts_per_iteration"] = 2
    run_id = server.start_run(graph)
    server.wait_for_iteration(run_id, 1)
    server.request("POST", f"/mixgrpo/runs/{run_id}/cancel")
    run = server.wait_for_state(run_id, "cancelled", "finished", "failed", "dead")
    assert run["state"] == "cancelled" and run["checkpoint"] >= 1


def test_a_signal_to_all_processes_at_once_saves_a_checkpoint(server, graphs):
    """As a machine or a container does it that stops."""
    graph = graphs.train("shut down", processes=2, iterations=40, seconds=0.2)
    graph["algorithm"]["inputs"]["prompts_per_iteration"] = 2
    graph["train"]["inputs"]["checkpoint_every"] = 100
    run_id = server.start_run(graph)
    server.wait_for_iteration(run_id, 1)
    launcher = psutil.Process(server.run(run_id)["pid"]).parent().parent()  # of accelerate, which started the ranks
    for process in [*launcher.children(recursive=True)[::-1], launcher]:
        process.send_signal(signal.SIGTERM)
    run = server.wait_for_state(run_id, "cancelled", "finished", "failed", "dead")
    assert run["state"] == "cancelled" and run["checkpoint"] >= 1
    assert run["message"] == f"Cancelled after {run['checkpoint']} of 40 iterations."


def test_fewer_prompts_than_processes_are_refused_with_a_sentence(server, graphs):
    graph = graphs.train("too many", processes=3)
    graph["algorithm"]["inputs"]["prompts_per_iteration"] = 1
    assert "prompts_per_iteration is 1 with 3 processes" in server.error(graph)["exception_message"]


def test_more_processes_than_cores_are_refused_before_anything_starts(server, graphs):
    before = {run["run_id"] for run in server.get("/mixgrpo/runs")["runs"]}
    cores = os.cpu_count()
    graph = graphs.train("too many for this machine", processes=cores + 1)
    graph["algorithm"]["inputs"]["prompts_per_iteration"] = cores + 1
    message = server.error(graph)["exception_message"]
    assert f"processes is {cores + 1} with {cores} CPU cores: set it to {cores} at most." in message
    assert {run["run_id"] for run in server.get("/mixgrpo/runs")["runs"]} == before
