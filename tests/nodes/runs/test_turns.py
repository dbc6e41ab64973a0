"""Who is launched when: as many at work as the owner allows, the others without a process, and nobody twice."""

import json
import time

import pytest


@pytest.fixture
def queue(runs, monkeypatch):
    """`queue(name)` enters a run; `queue.launched` names those that got a worker; `queue.end(name)` ends one.

    The processes are made up: a run is alive while its status says so.
    """
    launched = []

    def launch(folder):
        runs.launch.start_orders(folder, runs.stored.job(folder))
        launched.append(folder.name)
        folder.set_status(state="running", stage="", message="")

    monkeypatch.setattr(runs.launch, "launch", launch)
    monkeypatch.setattr(runs.liveness, "is_alive", lambda folder: folder.status()["state"] == "running")

    def enter(name):
        folder = runs.paths.folder_of(name)
        folder.create()
        job = {"name": name, "run_id": name, "graph": {}, "config": {"run": {"iterations": 3}}}
        folder.job.write_text(json.dumps(runs.signature.signed(job, runs.signature.install_key())))
        with runs.submit.lock():
            runs.turns.enter(folder)
        return folder

    enter.launched = launched
    enter.end = lambda name: runs.paths.folder_of(name).set_status(state="finished")
    return enter


def states(runs):
    return {each["run_id"]: each["state"] for each in runs.overview.summaries()}


def test_one_is_at_work_and_the_others_follow_in_their_order(runs, queue):
    for name in ("c", "b", "a"):
        queue(name)
    assert queue.launched == ["c"] and states(runs) == {"c": "running", "b": "queued", "a": "queued"}
    assert runs.submit.launch_waiting() == []
    queue.end("c")
    assert runs.submit.launch_waiting() == ["b"] and runs.submit.launch_waiting() == []
    queue.end("b")
    queue("last")  # it was there first, and goes first
    assert queue.launched == ["c", "b", "a"]
    queue.end("a")
    runs.submit.launch_waiting()
    assert queue.launched[3:] == ["last"]


def test_the_owner_says_how_many(runs, queue, monkeypatch):
    monkeypatch.setenv("MIXGRPO_WORKERS", "2")
    for name in ("a", "b", "c"):
        queue(name)
    assert queue.launched == ["a", "b"]
    monkeypatch.setenv("MIXGRPO_WORKERS", "none")
    with pytest.raises(ValueError, match="workers is 'none': set it to a whole number, 1 to 64"):
        runs.submit.submit({"name": "d", "fingerprint": "d" * 64, "config": {}})
    assert states(runs) == {"a": "running", "b": "running", "c": "queued"}


def test_a_run_waits_for_hours_and_says_so(runs, queue):
    queue("a")
    folder = queue("b")
    status = folder.status()
    folder.status_file.write_text(json.dumps({**status, "updated": time.time() - 1e5}))
    summary = runs.overview.summary(folder)
    assert (summary["state"], summary["stage"]) == ("queued", "turn")
    assert summary["message"].startswith("Waits for its turn") and "cancel" in summary["actions"]
    assert runs.wait.line(summary).startswith("Waits for its turn")
    assert not folder.log.exists(), "it has no process"


def test_cancelled_runs_never_start(runs, queue):
    running, waiting, last = (queue(name) for name in ("a", "b", "c"))
    assert runs.cancel.cancel_all([running, waiting, last]) == 3
    assert running.cancel_file.exists()
    assert states(runs) == {"a": "running", "b": "cancelled", "c": "cancelled"}
    queue.end("a")
    assert runs.submit.launch_waiting() == [] and queue.launched == ["a"]
    assert runs.wait.ending(waiting, "cancelled").startswith("Run b was cancelled before its first checkpoint")
    events = [json.loads(line)["type"] for line in waiting.events.read_text().splitlines()]
    assert events == ["cancelled"] and runs.cancel.cancel(waiting) is False


def test_a_run_that_can_not_start_has_failed_and_the_next_one_starts(runs, queue, monkeypatch):
    for name in ("a", "b", "c"):
        queue(name)
    launch = runs.launch.launch

    def refuse_b(folder):
        if folder.name == "b":
            raise ValueError("Its pack is gone.")
        launch(folder)

    monkeypatch.setattr(runs.launch, "launch", refuse_b)
    queue.end("a")
    runs.submit.launch_waiting()
    assert states(runs)["b"] == "failed"
    assert runs.overview.summary(runs.paths.folder_of("b"))["message"] == "Its pack is gone."
    runs.submit.launch_waiting()
    assert queue.launched == ["a", "c"]


@pytest.mark.parametrize(
    "device, lives, ours", [("cpu", True, True), ("cpu", False, True), ("7", True, False), ("7", False, True)]
)
def test_a_queue_goes_on_in_the_next_server_but_not_on_another_ones_gpu(runs, queue, monkeypatch, device, lives, ours):
    monkeypatch.setattr(runs.launch, "device", lambda: "cpu")
    queue("a")
    waiting = queue("b")
    server = runs.process.identity()
    if not lives:
        server["pid_created"] -= 1000
    turn = {**runs.stored.turn(waiting), "device": device, "server": server}
    (waiting.path / runs.stored.TURN).write_text(json.dumps(turn))
    queue.end("a")
    assert runs.submit.launch_waiting() == (["b"] if ours else [])


@pytest.mark.parametrize("text", ["", "{", "[]", '{"time": "x", "server": 5, "device": []}'])
def test_a_damaged_turn_costs_its_place_only(runs, queue, text):
    queue("a")
    waiting, other = queue("b"), queue("c")
    (other.path / runs.stored.TURN).write_text(text)
    queue.end("a")
    assert runs.submit.launch_waiting() == ["c"]
    assert states(runs)[waiting.name] == "queued"


def test_a_run_on_another_gpu_takes_no_place_here(runs, queue):
    running = queue("a")
    (running.path / "launch.json").write_text(json.dumps({"device": "another GPU"}))
    queue("b")
    assert queue.launched == ["a", "b"]


def test_the_follower_starts_the_next_one(runs, queue, monkeypatch):
    freed = []
    monkeypatch.setattr(runs.follow.free_memory, "free_between_prompts", lambda: freed.append(True))
    queue("a")
    queue("b")
    follower = runs.follow.Follower(lambda *_: None, 3600.0)
    follower.look()
    assert queue.launched == ["a"] and not freed
    queue.end("a")
    runs.news.tell("a")
    follower.look()
    assert queue.launched == ["a", "b"] and freed == [True]


def test_a_strangers_folder_takes_no_place(runs, queue):
    stranger = runs.paths.folder_of("stranger")
    stranger.create()
    stranger.job.write_text("{}")
    for told in ({"state": "queued", "updated": 9e17}, {"state": "running", "pid": 1, "pid_created": 0.0}):
        stranger.status_file.write_text(json.dumps(told))
        (stranger.path / "launch.json").write_text("{}")
        queue(f"{told['state']}-beside")
    assert queue.launched == ["queued-beside"]
    queue.end("queued-beside")
    (stranger.path / runs.stored.TURN).write_text('{"time": 1}')
    stranger.status_file.write_text('{"state": "queued"}')
    runs.submit.launch_waiting()
    assert runs.liveness.state_of(stranger) == "failed" and "stranger" not in queue.launched


def test_the_route_cancels_a_run_or_its_whole_sweep(runs, queue):
    import asyncio

    from aiohttp.test_utils import make_mocked_request

    for place, name in enumerate(("a", "b", "c"), 1):
        runs.workflow.keep(queue(name), None, {}, "7", True, {"id": "x", "position": place, "of": 3, "values": {}})

    def cancel(name, query=""):
        handle = runs.routes.answering(runs.routes._with_folder(runs.routes._cancel))
        return asyncio.run(handle(make_mocked_request("POST", f"/{query}", match_info={"run_id": name}))).status

    assert cancel("c") == 200 and states(runs) == {"a": "running", "b": "queued", "c": "cancelled"}
    assert cancel("c") == 409 and cancel("c", "?sweep=2") == 400
    assert cancel("c", "?sweep=1") == 200
    assert states(runs)["b"] == "cancelled" and runs.paths.folder_of("a").cancel_file.exists()
    queue.end("a")
    assert cancel("c", "?sweep=1") == 409
