"""Lists into Train on a real server: a series of runs, one after another, that one Cancel ends."""

import time


def sweep(graphs, name, field, values, **settings):
    graph = graphs.train(name, **settings)
    graph["list"] = {"class_type": "Test_List", "inputs": {"text": str(values)}}
    graph["train"]["inputs"][field] = ["list", 0]
    return graph


def runs_of(server, name):
    found = server.get(f"/mixgrpo/runs?query={name}")["runs"]
    return sorted(found, key=lambda run: (run["sweep"] or {}).get("position", 0))


def test_one_cancel_ends_a_sweep_at_work_and_waiting(server, graphs):
    prompt = server.queue(sweep(graphs, "sweeping", "seed", [5, 6, 7, 8], seconds=0.3, iterations=200))
    server.wait(lambda: any(run.get("iteration") for run in runs_of(server, "sweeping")), "the first one to train")
    first, *others = runs_of(server, "sweeping")
    assert len(others) == 3
    assert first["state"] == "running" and {run["state"] for run in others} == {"queued"}
    assert not any("pid" in run for run in others)
    assert "save" in first["actions"] and "save" not in others[0]["actions"]
    status, answer = server.request("POST", f"/mixgrpo/runs/{others[0]['run_id']}/save")
    assert status == 409 and "isn't at work yet" in answer["error"], answer
    assert [run["sweep"]["values"] for run in (first, *others)] == [{"seed": seed} for seed in (5, 6, 7, 8)]
    assert server.get(f"/mixgrpo/runs?sweep={first['sweep']['id']}")["total"] == 4

    server.request("POST", "/interrupt")
    assert graphs.error_of(server.result(prompt, 20))["event"] == "execution_interrupted"
    server.wait(lambda: {run["state"] for run in runs_of(server, "sweeping")} == {"cancelled"}, "all to end", 20)
    time.sleep(1.5)  # a server looks for the next one more often
    assert {run["state"] for run in runs_of(server, "sweeping")} == {"cancelled"}
    assert not any((server.folder(run["run_id"]) / "worker.log").exists() for run in others)


def test_a_sweep_goes_on_past_a_run_that_fails_and_a_list_of_runs_is_waited_for(server, graphs):
    graph = sweep(graphs, "onwards", "guidance", [3.5, 0.0], mode="detached")  # this model has no guidance
    graph["wait"] = {"class_type": "MixGRPO_Wait", "inputs": {"run": ["train", 0], "run_id": "", "timeout": 0}}
    entry = server.result(server.queue(graph))
    ids = entry["outputs"]["train"]["run_id"]
    assert [server.run(run_id)["state"] for run_id in ids] == ["failed", "finished"]
    message = graphs.error_of(entry)["exception_message"]
    assert message.startswith("1 of 2 runs didn't finish.") and f"Run {ids[0]} failed: " in message
    assert "no guidance embedding: set it to 0" in message
    first, second = (server.events(run_id) for run_id in ids)
    assert first[-1]["time"] < second[0]["time"], "one after another"
