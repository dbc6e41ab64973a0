"""Lists into Train on a real server: a series of runs, one after another, that one Cancel ends."""

import time


def sweep(graphs, name, seeds, **settings):
    graph = graphs.train(name, **settings)
    graph["seeds"] = {"class_type": "Test_List", "inputs": {"text": str(seeds)}}
    graph["train"]["inputs"]["seed"] = ["seeds", 0]
    return graph


def runs_of(server, name):
    return sorted(server.get(f"/mixgrpo/runs?query={name}")["runs"], key=lambda run: run["sweep"]["position"])


def test_one_cancel_ends_a_sweep_at_work_and_waiting(server, graphs):
    prompt = server.queue(sweep(graphs, "sweeping", [5, 6, 7, 8], seconds=0.3, iterations=200))
    server.wait(lambda: len(server.get("/mixgrpo/runs?query=sweeping")["runs"]) == 4, "four runs")
    first, *others = runs_of(server, "sweeping")
    server.wait_for_iteration(first["run_id"], 1)
    first, *others = runs_of(server, "sweeping")
    assert first["state"] == "running" and {run["state"] for run in others} == {"queued"}
    assert not any("pid" in run for run in others)
    assert [run["sweep"]["values"] for run in (first, *others)] == [{"seed": seed} for seed in (5, 6, 7, 8)]
    assert server.get(f"/mixgrpo/runs?sweep={first['sweep']['id']}")["total"] == 4

    server.request("POST", "/interrupt")
    assert graphs.error_of(server.result(prompt, 20))["event"] == "execution_interrupted"
    server.wait(lambda: {run["state"] for run in runs_of(server, "sweeping")} == {"cancelled"}, "all to end", 20)
    time.sleep(1.5)  # a server looks for the next one more often
    assert {run["state"] for run in runs_of(server, "sweeping")} == {"cancelled"}
    assert not any((server.folder(run["run_id"]) / "worker.log").exists() for run in others)


def test_a_sweep_goes_on_past_a_run_that_fails_and_the_route_ends_all_of_it(server, graphs):
    graph = sweep(graphs, "onwards", [1, 2])
    graph["names"] = {"class_type": "Test_TextList", "inputs": {"text": "onwards a\nonwards b"}}
    graph["train"]["inputs"] |= {"run_name": ["names", 0], "mode": "detached"}
    graph["wait"] = {"class_type": "MixGRPO_Wait", "inputs": {"run": ["train", 0], "run_id": "", "timeout": 0}}
    outputs = server.outputs(graph)
    ids = outputs["train"]["run_id"]
    assert len(ids) == 2 and outputs["wait"]["run_id"] == ids
    assert [server.run(run_id)["state"] for run_id in ids] == ["finished", "finished"]
    begun = [server.events(run_id)[0]["time"] for run_id in ids]
    assert server.events(ids[0])[-1]["time"] < begun[1], "one after another"

    graph = sweep(graphs, "halfway", [1, 2], fail="The disk is unplugged.")
    message = server.error(graph)["exception_message"]
    assert message.startswith("2 of 2 runs didn't finish.") and message.count("The disk is unplugged.") >= 2

    graph = sweep(graphs, "routed", [1, 2, 3], seconds=0.3, iterations=200, mode="detached")
    ids = server.outputs(graph, 60)["train"]["run_id"]
    assert server.request("POST", f"/mixgrpo/runs/{ids[2]}/cancel?sweep=2")[0] == 400
    assert server.request("POST", f"/mixgrpo/runs/{ids[2]}/cancel?sweep=1")[0] == 200
    for run_id in ids:
        server.wait_for_state(run_id, "cancelled", seconds=60)
    assert server.request("POST", f"/mixgrpo/runs/{ids[0]}/cancel?sweep=1")[0] == 409
