"""A run knows the graph on the canvas that it was queued from, and only the client that queued it is told its run."""

import json


def queue(server, graph, client, workflow=None):
    """Queues as the browser does, which sends the workflow along, or as a script does, which has none."""
    extra = {"extra_pnginfo": {"workflow": workflow}} if workflow else {}
    body = {"prompt": server._with_defaults(graph), "client_id": client, "extra_data": extra}
    status, answer = server.request("POST", "/prompt", body)
    assert status == 200, answer
    return answer["prompt_id"]


def stored(server, run_id, name):
    return json.loads((server.folder(run_id) / f"{name}.json").read_text())


def test_a_run_keeps_its_workflow_and_tells_the_node_of_it(server, graphs):
    workflow = {"id": "5f0c", "nodes": [{"id": 1, "title": "Ünïcode"}]}
    graph = graphs.train("on the canvas", mode="detached")
    with server.socket() as messages:
        outputs = server.result(queue(server, graph, "test", workflow))["outputs"]
        run_id = server.run_id(outputs)
        told = [{"workflow_id": "5f0c", "node_id": "train", "run_id": run_id}]
        server.wait(lambda: messages(run_id, "mixgrpo.node") == told, "the node's run", 20)
        kept = stored(server, run_id, "workflow")
        assert kept["workflow"] == workflow and kept["prompt"]["train"] == server._with_defaults(graph)["train"]
        queued = stored(server, run_id, "queued")
        assert (queued["workflow_id"], queued["node_id"], queued["waits"]) == ("5f0c", "train", False)
        (run,) = server.get("/mixgrpo/runs?workflow=5f0c")["runs"]
        assert (run["run_id"], run["train_node_id"], run["detached"]) == (run_id, "train", True)

        # The same run, waited for from another graph; then from a script and by another client.
        wait = {"wait": {"class_type": "MixGRPO_Wait", "inputs": {"run_id": run_id, "timeout": 0}}}
        server.result(queue(server, wait, "test", {**workflow, "id": "77aa"}))
        told.append({"workflow_id": "77aa", "node_id": "wait", "run_id": run_id})
        server.wait(lambda: messages(run_id, "mixgrpo.node") == told, "the waiting node's run", 20)
        server.result(queue(server, wait, "test"))
        server.result(queue(server, wait, "another", workflow))
        # Messages of one socket come in their order: what would have come is there before the next one.
        server.result(queue(server, wait, "test", {**workflow, "id": "last"}))
        told.append({"workflow_id": "last", "node_id": "wait", "run_id": run_id})
        server.wait(lambda: messages(run_id, "mixgrpo.node")[-1] == told[-1], "the last word", 20)
        assert messages(run_id, "mixgrpo.node") == told


def test_another_workflow_is_no_other_run_and_a_strange_one_no_error(server, first_graph, first_run):
    graph, first = first_graph(), first_run[1]
    assert server.run_id(server.result(queue(server, graph, "test", {"id": "a"}))["outputs"]) == first
    # There the browser shows it; but what it was trained from is what a script had queued.
    assert stored(server, first, "queued")["workflow_id"] == "a"
    assert stored(server, first, "workflow")["workflow"] is None
    for strange in ({"id": {"not": "text"}}, {"id": "x" * 1000}, ["no", "object"], "text"):
        assert server.run_id(server.result(queue(server, graph, "test", strange))["outputs"]) == first
    assert server.run_id(server.outputs(graph)) == first
