"""A server's death doesn't matter, one GPU is shared, and a worker that doesn't stop is ended."""

from filelock import FileLock


def test_run_survives_its_server_and_the_next_server_cancels_it(own_server, graphs):
    run_id = own_server.start_run(graphs.train("survivor", seconds=0.3, iterations=200))
    reached = own_server.wait_for_iteration(run_id, 1)["iteration"]
    own_server.kill()
    own_server.start()
    later = own_server.wait_for_iteration(run_id, reached + 3)
    assert later["state"] == "running"
    assert own_server.request("POST", f"/mixgrpo/runs/{run_id}/cancel")[0] == 200
    own_server.wait_for_state(run_id, "cancelled")


def test_run_waits_while_another_training_has_the_gpu(own_server, graphs):
    with FileLock(own_server.base / "gpu.lock"):
        run_id = own_server.start_run(graphs.train("queue up"))
        own_server.wait_for_state(run_id, "waiting", seconds=30)
        other = own_server.start_run(graphs.train("gives up"))
        own_server.wait_for_state(other, "waiting", seconds=30)
        own_server.request("POST", f"/mixgrpo/runs/{other}/cancel")
        own_server.wait_for_state(other, "cancelled", seconds=20)
        assert own_server.run(run_id)["state"] == "waiting"
    own_server.wait_for_state(run_id, "finished")


def test_cancel_ends_a_scorer_that_does_not_return(own_server, graphs):
    graph = graphs.train("hangs", iterations=4, checkpoint_every=2, evaluate_every=2)
    graph["reward"]["inputs"]["hold_at"] = 3 + 2 + 1  # the fourth iteration's score lasts a minute
    before = len(own_server.traces())
    run_id = own_server.start_run(graph)
    own_server.wait(lambda: "held" in str(own_server.traces()[before:]), "the score that lasts", 240)
    own_server.request("POST", f"/mixgrpo/runs/{run_id}/cancel")
    run = own_server.wait_for_state(run_id, "cancelled", "finished", "failed", "dead", seconds=40)
    assert (run["state"], run["checkpoint"]) == ("cancelled", 2)
    assert "didn't end within 4 s, so the process was ended; its checkpoint holds 2 iterations" in run["message"]
    own_server.wait(lambda: not (own_server.folder(run_id) / "temp").exists(), "nothing left over", 20)
    # Its process is gone, and with it the lock on the GPU.
    with FileLock(own_server.base / "gpu.lock", timeout=10):
        pass


def test_no_log_holds_an_error_of_logging_itself(own_server, graphs):
    """This server's console shows ASCII only, and its folder's name holds more."""
    error = own_server.error(graphs.train("shown", fail="Nicht gefunden: \u00dcbung \u732b"))
    assert "\u00dcbung \u732b" in error["exception_message"]
    (run_id,) = (run["run_id"] for run in own_server.get("/mixgrpo/runs")["runs"] if run["run_id"].startswith("shown"))
    worker = (own_server.folder(run_id) / "worker.log").read_text(encoding="utf-8")
    server = own_server.log.read_text(encoding="utf-8")
    assert "\u00dcbung \u732b" in worker and "\\u732b" in server and "its log is" in server
    for log in (worker, server):
        assert "Logging error" not in log, log[log.index("Logging error") - 200 :][:3000]
