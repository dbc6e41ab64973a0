"""Judges and other scorers at other hosts as rewards of real runs: they fail now and then, are down, never allowed."""

import asyncio
import json

import pytest
from aiohttp import web

from mixgrpo_engine.rewards.server import application
from tests.fake_judge import brightness, chat, fake_judge
from tests.scorer_server import running

JUDGE = {"model": "vlm", "preset": "custom", "question": "{prompt}?", "score_template": "Score: {score}"}


@pytest.fixture
def judged(server, graphs):
    """`judged(run name, url)` is a small run's graph with a judge there; the owner allows what `owner` lists."""

    def graph(name, url, **settings):
        graph = graphs.train(name)
        graph["reward"] = {
            "class_type": "MixGRPO_RewardJudge", "inputs": {**JUDGE, "urls": url, "retries": 1, **settings},
        }  # fmt: skip
        return graph

    return graph


@pytest.fixture
def owner(server):
    """`owner(hosts, key)` writes the owner's file of the running server."""
    file = server.base / "user" / "mixgrpo.json"
    yield lambda *hosts, key="": file.write_text(json.dumps({"judge_hosts": hosts, "judge_key": key}))
    file.unlink(missing_ok=True)


def test_a_run_survives_a_judge_that_fails_now_and_then(server, graphs, judged, owner):
    async def respond(call):
        if call.number % 5 == 2:
            return web.Response(status=500)
        return chat("I won't say." if call.number % 5 == 4 else f"Score: {call.brightness:.3f}")

    with fake_judge(respond) as judge:
        owner(f"127.0.0.1:{judge.port}", key="sk-secret-of-the-owner")
        outputs = server.outputs(judged("now and then", judge.url, concurrency=1))
        assert judge.calls[0].request.headers["Authorization"] == "Bearer sk-secret-of-the-owner"
        assert {call.text for call in judge.calls} <= {"red?", "blue?", "green?"}
    run_id = server.run_id(outputs)
    assert "finished, iteration 2 of 2" in outputs["train"]["text"][0]
    assert all(event["reward"]["judge"] is not None for event in server.events(run_id) if event["type"] == "iteration")
    # The run says why some images have no score; the key is nowhere in its folder.
    notices = [event["message"] for event in server.events(run_id) if event["type"] == "notice"]
    assert any("The reward 'judge' couldn't score" in notice and "I won't say." in notice for notice in notices)
    texts = [path.read_bytes() for path in server.folder(run_id).rglob("*") if path.is_file()]
    assert len(texts) > 5 and not any(b"sk-secret" in text for text in texts)


def test_a_judge_that_is_down_fails_the_run_after_a_bounded_number_of_tries(server, graphs, judged, owner):
    async def respond(call):
        return web.Response(status=503, text="No GPU left.")

    with fake_judge(respond) as judge:
        owner(f"127.0.0.1:{judge.port}")
        graph = judged("down", judge.url)
        graph["train"]["inputs"]["iterations"] = 50
        message = server.error(graph)["exception_message"]
        tries = len(judge.calls)
    assert "reward 'judge' could score none of the" in message and "3 times in a row" in message
    assert "answered 503: 'No GPU left.', 2 tries" in message
    run = server.get("/mixgrpo/runs")["runs"][0]
    assert (run["state"], run["iteration"], run["checkpoint"]) == ("failed", 2, 2)
    inputs = graph["algorithm"]["inputs"]
    images = inputs["group_size"] * inputs.get("prompts_per_iteration", 4)
    assert 0 < tries <= 3 * images * 2


def test_a_run_learns_from_an_http_scorer_and_from_comparisons(server, graphs, judged, owner):
    shown = []

    def score(images, prompts):
        shown.extend(prompts)
        return [brightness(image) for image in images]

    async def brighter(call):
        first, second = map(brightness, call.images)
        return chat("Image 1 is better." if first > second else "Image 2 is better.")

    with running(application(score)) as url, fake_judge(brighter) as judge:
        owner(url.removeprefix("http://"), f"127.0.0.1:{judge.port}")
        graph = judged("other hosts", judge.url)
        graph["pairwise"] = {
            "class_type": "MixGRPO_RewardPairwiseJudge", "inputs": {"urls": judge.url, "model": "vlm"},
        }  # fmt: skip
        graph["http"] = {"class_type": "MixGRPO_RewardHTTP", "inputs": {"urls": url}}
        graph["reward"] = {
            "class_type": "MixGRPO_RewardMix", "inputs": {"reward_1": ["http", 0], "reward_2": ["pairwise", 0]},
        }  # fmt: skip
        outputs = server.outputs(graph)
    steps = [event for event in server.events(server.run_id(outputs)) if event["type"] == "iteration"]
    assert len(steps) == 2 and set(shown) <= {"red", "blue", "green"}
    for step in steps:
        assert step["reward"]["http"] > 0 and step["reward"]["pairwise_judge"] == pytest.approx(0.5)


@pytest.mark.parametrize("kind", ["MixGRPO_RewardJudge", "MixGRPO_RewardPairwiseJudge", "MixGRPO_RewardHTTP"])
def test_a_host_that_is_not_allowed_is_refused_at_once(server, judged, owner, kind):
    async def respond(call):
        raise AssertionError("This host was never allowed.")

    with fake_judge(respond) as judge:
        for hosts in ([], [f"127.0.0.1:{judge.port + 1}"]):
            owner(*hosts)
            graph = judged("never", judge.url)
            graph["reward"] = {"class_type": kind, "inputs": {"urls": judge.url}}
            graph = server._with_defaults(graph)
            status, answer = server.request("POST", "/prompt", {"prompt": graph})
            assert status == 400, answer
            details = json.dumps(answer["node_errors"])
            assert f"127.0.0.1:{judge.port} isn't on the list" in details and "MIXGRPO_JUDGE_HOSTS" in details
        assert not judge.calls
    assert not [run for run in server.get("/mixgrpo/runs")["runs"] if run["name"] == "never"]


def test_cancel_reaches_a_score_that_waits_for_a_judge(server, graphs, owner):
    async def respond(call):
        await asyncio.sleep(60)

    with fake_judge(respond) as judge:
        owner(f"127.0.0.1:{judge.port}")
        graph = {
            "image": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 2, "color": 0}},
            "judge": {"class_type": "MixGRPO_RewardJudge", "inputs": {**JUDGE, "urls": judge.url, "timeout": 60.0}},
            "score": {
                "class_type": "MixGRPO_Score",
                "inputs": {"images": ["image", 0], "reward": ["judge", 0], "prompt": "red"},
            },
        }
        prompt = server.queue(graph)
        server.wait(lambda: judge.calls, "the judge to be asked")
        server.request("POST", "/interrupt")
        # A bound that tells "cancelled" from "given up at the deadline" on any machine.
        error = graphs.error_of(server.result(prompt, 40))
    assert (error["event"], error["node_id"]) == ("execution_interrupted", "score")
