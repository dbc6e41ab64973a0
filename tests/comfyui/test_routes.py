"""The HTTP routes answer in JSON, whatever they are asked."""

import json
import uuid

import pytest

from mixgrpo_engine.config import TrainConfig
from mixgrpo_engine.schedule import flash_sigmas, flow_sigmas

READ = ["", "/events", "/history", "/schedule", "/images", "/group", "/log", "/workflow", "/report"]
CHANGE = ["/cancel", "/resume", "/save", "/continue", "/restart", "/about"]
ROUTES = [*(("GET", tail) for tail in READ), *(("POST", tail) for tail in CHANGE), ("DELETE", "")]


@pytest.mark.parametrize(
    "run_id",
    [
        "unknown-12345678",
        "..%2F..%2Fetc",
        "%2e%2e",
        "UPPER",
        "a%00b",
        "x" * 300,
        "con",
        "%7Bx%7D",
        ".submit.lock",
        "%F0%9F%92%A9",
    ],
)
@pytest.mark.parametrize("method, tail", ROUTES)
def test_ids_that_are_none_get_404_in_json(server, method, tail, run_id):
    status, answer = server.request(method, f"/mixgrpo/runs/{run_id}{tail}")
    assert status == 404
    assert "There is no run" in answer["error"]


def test_same_routes_under_api(server):
    assert server.get("/api/mixgrpo/runs").keys() == {"runs", "total", "counts"}


@pytest.fixture
def run_id(first_run):
    return first_run[1]


def test_run_tells_its_settings(server, run_id):
    run = server.run(run_id)
    assert run["config"]["run"]["seed"] == 2**53 - 1
    assert run["prompts"]["train"] and run["prompts"]["held_out"]
    assert run["log"].endswith("worker.log")


def test_events_go_on_from_an_offset(server, run_id):
    first = server.get(f"/mixgrpo/runs/{run_id}/events?offset=0")
    rest = server.get(f"/mixgrpo/runs/{run_id}/events?offset={first['offset']}")
    assert first["events"] and rest["events"] == [] and rest["offset"] == first["offset"]
    assert server.get(f"/mixgrpo/runs/{run_id}/events?offset={10**17}")["events"] == []


@pytest.mark.parametrize("offset", ["-1", "x", "1.5", "", "9" * 40, "%C2%B2"])
def test_bad_offset_is_a_400_in_json(server, run_id, offset):
    status, answer = server.request("GET", f"/mixgrpo/runs/{run_id}/events?offset={offset}")
    assert status == 400 and "offset must be" in answer["error"]


@pytest.fixture
def told(server):
    """`told(events, files)` makes a run's folder by hand, as workers leave it; its id."""

    def make(events=(), made=(), **files):
        run_id = f"told-{uuid.uuid4().hex[:8]}"
        folder = server.folder(run_id)
        folder.mkdir(parents=True)
        (folder / "job.json").write_text(json.dumps({"name": run_id, "config": TrainConfig().as_dict(), **dict(made)}))
        (folder / "status.json").write_text('{"state": "failed"}')
        (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
        for name, text in files.items():
            (folder / f"{name}.json").write_text(text)
        return run_id

    return make


def test_a_real_runs_history(server, run_id):
    history = server.get(f"/mixgrpo/runs/{run_id}/history")
    told = [event for event in server.events(run_id) if event["type"] == "iteration"]
    assert history["iterations"]["iteration"] == [1, 2]
    assert history["iterations"]["reward.redness"] == [
        pytest.approx(event["reward"]["redness"], rel=1e-5) for event in told
    ]
    assert history["evaluations"]["iteration"] == [0, 1, 2] and history["best"] and history["state"] == "finished"
    assert server.get(f"/mixgrpo/runs/{run_id}/events?offset={history['offset']}")["events"] == []
    assert server.get(f"/mixgrpo/runs/{run_id}/history?after=1")["iterations"]["iteration"] == [2]
    assert server.get(f"/mixgrpo/runs/{run_id}/history?points=1")["iterations"]["iteration"] == [2]


def test_a_real_runs_other_pages(server, run_id):
    run = server.run(run_id)
    assert run["preset_differences"]["preset"] and run["versions"]["torch"] and "restart" in run["actions"]
    log = server.get(f"/mixgrpo/runs/{run_id}/log?bytes=2000")
    assert 0 < len(log["text"]) <= 2000 <= log["size"] and log["text"].endswith("\n")
    assert server.get(f"/mixgrpo/runs/{run_id}/workflow").keys() == {"workflow", "prompt"}
    status, report = server.request("GET", f"/mixgrpo/runs/{run_id}/report")
    assert status == 200 and report.startswith("<!doctype html>") and "redness, held-out prompts" in report


def test_schedule_of_a_hybrid_run(server, told):
    config = TrainConfig.from_dict({"rollout": {"flash_ratio": 0.4}, "run": {"iterations": 60}})
    sigmas = flow_sigmas(25, 1.7)
    event = {"type": "schedule", "sigmas": sigmas.tolist(), "flash_ratio": 0.4, "shift": 1.7}
    answer = server.get(f"/mixgrpo/runs/{told([event], {'config': config.as_dict()})}/schedule")
    assert answer["starts"] == [[0, 0], [25, 1], [50, 2]] and answer["sigmas"] == sigmas.tolist()
    for start, window in enumerate(answer["windows"]):
        assert (window["start"], window["stop"]) == (start, start + 4)
        assert window["sigmas"] == flash_sigmas(sigmas, range(start, start + 4), 0.4, 1.7).tolist()
    assert server.get(f"/mixgrpo/runs/{told()}/schedule") == {"sigmas": [], "windows": [], "starts": []}


def test_images_and_group(server, told):
    image = {"file": "samples/000003/00.webp", "prompt": "<b>", "seed": "12345678901234567", "scores": {"a": None}}
    run_id = told([{"type": "sample", "iteration": 3, "path": "samples/iteration_000003.png", "images": [image]}])
    assert server.get(f"/mixgrpo/runs/{run_id}/images") == {"samples": []}
    assert server.get(f"/mixgrpo/runs/{run_id}/group") == {"images": []}
    place = server.folder(run_id) / "samples" / "000003"
    place.mkdir(parents=True)
    (place / "00.webp").touch()
    view = {"filename": "00.webp", "subfolder": f"mixgrpo/{run_id}/samples/000003", "type": "output"}
    del image["file"]
    answer = {"samples": [{"iteration": 3, "images": [{"view": view, **image}]}]}
    assert server.get(f"/mixgrpo/runs/{run_id}/images") == answer


@pytest.mark.parametrize(
    ("name", "text", "tail"),
    [
        ("workflow", "{", "/workflow"),
        ("workflow", "[" * 100_000, "/workflow"),
        ("job", "{", "/schedule"),
        ("job", '{"config": {"run": {"nonsense": 1}}}', "/schedule"),
        ("job", '{"config": {"rollout": {"steps": "x"}}}', "/schedule"),
        ("job", "[]", "/report"),
    ],
)
def test_damaged_files_are_a_500_with_a_sentence(server, told, name, text, tail):
    event = {"type": "schedule", "sigmas": [1.0, 0.5, 0.0], "flash_ratio": 1.0, "shift": 3.0}
    run_id = told([event], **{name: text})
    status, answer = server.request("GET", f"/mixgrpo/runs/{run_id}{tail}")
    assert status == 500 and answer["error"].startswith(f"Run {run_id} can't be read: "), answer


@pytest.mark.parametrize("event", [{}, {"sigmas": 5}, {"sigmas": [1.0] * 26, "flash_ratio": "x", "shift": None}])
def test_a_damaged_schedule_is_a_500(server, told, event):
    status, answer = server.request("GET", f"/mixgrpo/runs/{told([{'type': 'schedule', **event}])}/schedule")
    assert status == 500 and "can't be read" in answer["error"]


def test_no_answer_holds_nan(server, told):
    run_id = told(workflow='{"workflow": {"a": NaN}, "prompt": 5}')
    numbers = '{"type": "iteration", "iteration": 1, "loss": NaN, "reward": {"a": Infinity}, "kl": 1e999}\n'
    (server.folder(run_id) / "events.jsonl").write_text(numbers + '{"type": "best", "iteration": 1, "score": 1e999}\n')
    assert server.get(f"/mixgrpo/runs/{run_id}/workflow") == {"workflow": {"a": None}, "prompt": None}
    assert server.events(run_id)[0] == {"type": "iteration", "iteration": 1, "loss": None, "reward": {"a": None},
                                        "kl": None}  # fmt: skip
    history = server.get(f"/mixgrpo/runs/{run_id}/history")
    assert history["iterations"] == {"iteration": [1]} and history["best"]["score"] is None


def test_long_logs_come_in_parts(server, told):
    lines = [{"type": "x", "number": number, "text": "a" * 1000} for number in range(9000)]
    run_id, found, offset, more, parts = told(lines), [], 0, True, 0
    while more:
        answer = server.get(f"/mixgrpo/runs/{run_id}/events?offset={offset}")
        found, offset, more, parts = found + answer["events"], answer["offset"], answer["more"], parts + 1
    assert found == lines and parts == 3


@pytest.mark.parametrize(
    ("tail", "words"),
    [
        ("?limit=x", "limit must be a whole number"),
        ("?limit=-1", "limit must be a whole number"),
        ("?offset=1.5", "offset must be"),
        ("?state=finished,nowhere", "state is 'nowhere': choose of queued, "),
        ("/{}/history?points=10001", "points must be a whole number, 0 to 10000"),
        ("/{}/history?after=x", "after must be a whole number"),
        ("/{}/log?bytes=9999999", "bytes must be a number of bytes, 0 to 1048576."),
    ],
)
def test_malformed_queries_are_a_400(server, run_id, tail, words):
    status, answer = server.request("GET", f"/mixgrpo/runs{tail.format(run_id)}")
    assert status == 400 and words in answer["error"]


@pytest.mark.parametrize(
    ("tail", "body", "words"),
    [
        ("/continue", b"", "must hold a JSON object"),
        ("/continue", b"[" * 100_000, "must hold a JSON object"),
        ("/continue", b"\xff", "must hold a JSON object"),
        ("/continue", [], "must hold a JSON object"),
        ("/continue", {}, 'with "iterations"'),
        ("/continue", {"iterations": "5"}, "iterations is '5': it must be a whole number"),
        ("/continue", {"iterations": True}, "iterations is True: it must be a whole number"),
        ("/continue", {"iterations": 10**7}, "iterations is 10000000: it must be 1 to 1000000"),
        ("/about", {}, '"name", "note" or both'),
        ("/about", {"name": 5}, "name must be a text of at most 200 characters"),
        ("/about", {"name": "a", "state": "finished"}, '"name", "note" or both'),
    ],
)
def test_malformed_bodies_are_a_400(server, run_id, tail, body, words):
    # JSON is UTF-8, whatever a header says.
    status, answer = server.request("POST", f"/mixgrpo/runs/{run_id}{tail}", body, "application/json; charset=none")
    assert status == 400 and words in answer["error"], answer


def test_the_list_in_pages(server, run_id):
    every = server.get("/mixgrpo/runs")
    assert every["total"] == len(every["runs"]) == sum(every["counts"].values())
    part = server.get("/mixgrpo/runs?limit=1&offset=0&state=finished&query=FIRST%20run")
    assert [run["run_id"] for run in part["runs"]] == [run_id] and part["counts"] == every["counts"]
    assert server.get("/mixgrpo/runs?query=nothing-like-it")["runs"] == []


def test_a_run_goes_on_starts_again_and_is_removed(server, graphs):
    def post(run_id, action, body=None):
        return server.request("POST", f"/mixgrpo/runs/{run_id}/{action}", body)

    run_id = server.start_run(graphs.train("from outside"))
    run = server.wait_for_state(run_id, "finished")
    assert post(run_id, "resume")[0] == 409
    status, answer = post(run_id, "about", {"name": "<b>mine</b>", "note": "n"})
    assert (status, answer["name"], answer["note"]) == (200, "<b>mine</b>", "n")
    status, answer = post(run_id, "continue", {"iterations": run["iterations"]})
    assert status == 409 and "give a higher number" in answer["error"]
    status, answer = post(run_id, "continue", {"iterations": 4})
    assert (status, answer["run_id"], answer["action"]) == (200, run_id, "resumed")
    status, refused = server.request("DELETE", f"/mixgrpo/runs/{run_id}")
    assert status == 409 and "is at work: cancel it" in refused["error"]
    run = server.wait_for_state(run_id, "finished")
    assert (run["iteration"], run["iterations"], run["name"]) == (4, 4, "<b>mine</b>")
    # It is another run than the one with two iterations was, and named after its own fingerprint.
    status, answer = post(run_id, "restart")
    again = answer["run_id"]
    assert status == 200 and again.startswith("from-outside-") and answer["action"] == "started" and again != run_id
    assert server.wait_for_state(again, "finished")["iterations"] == 4
    assert server.request("DELETE", f"/mixgrpo/runs/{run_id}?loras=2")[0] == 400
    server.wait(lambda: "delete" in server.run(run_id)["actions"], "the worker's end", 20)
    assert server.request("DELETE", f"/mixgrpo/runs/{run_id}?loras=1") == (200, {"run_id": run_id})
    assert server.request("GET", f"/mixgrpo/runs/{run_id}")[0] == 404
    assert not server.folder(run_id).exists() and not server.lora(run_id).exists()
    assert server.lora(again).exists()
