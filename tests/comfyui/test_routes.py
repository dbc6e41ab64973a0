"""The HTTP routes answer in JSON, whatever they are asked."""

import pytest


@pytest.mark.parametrize(
    "run_id",
    ["unknown-12345678", "..%2F..%2Fetc", "%2e%2e", "UPPER", "a%00b", "x" * 300, "con", ".submit.lock", "%F0%9F%92%A9"],
)
@pytest.mark.parametrize("method, tail", [("GET", ""), ("GET", "/events"), ("POST", "/cancel"), ("POST", "/resume")])
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
