"""Requests of judges and other scorers to servers that are slow, broken, busy or dead."""

import asyncio
import contextlib
import time
from email.utils import formatdate

import pytest
from aiohttp import web

from mixgrpo_engine.rewards.remote import client
from tests.engine.rewards.judge.judges import always, nothing_listens, score

KEY = "sk-a-secret-0123456789"

# --- many at once ---


def test_concurrency_reaches_its_bound_and_never_passes_it(serve, remote):
    server = serve(None)
    together = asyncio.Event()

    async def respond(call):
        if server.at_once == 3:
            together.set()
        await together.wait()
        await asyncio.sleep(0.01)
        return await remote.brightness(call)

    server.respond = respond
    assert score(remote.made(server, concurrency=3), *range(12)).tolist() == list(range(12))
    assert server.most_at_once == 3


def test_servers_are_asked_in_turn(serve, remote):
    one, other = serve(remote.same(1)), serve(remote.same(2))
    score(remote.made(one, other), *range(10))
    assert len(one.calls) == len(other.calls) == 5


def test_a_dead_server_costs_no_image_and_is_left_alone(serve, remote, monkeypatch):
    monkeypatch.setattr(client, "REST", 3600)
    dead, alive = serve(always(lambda: web.Response(status=503))), serve(remote.brightness)
    reward = remote.made(dead, alive, concurrency=1)
    assert score(reward, *range(6)).tolist() == list(range(6))
    assert len(dead.calls) == 1
    assert score(reward, *range(6)).tolist() == list(range(6))
    assert len(dead.calls) == 1, "it still rests in the next call"
    reward._client.servers[0].rests_until = time.monotonic()
    score(reward, 1, 2)
    assert len(dead.calls) == 2, "once it has rested it is tried again"


def test_a_server_that_nobody_runs_costs_no_image(serve, remote):
    assert score(remote.made(nothing_listens(), serve(remote.brightness)), *range(6)).tolist() == list(range(6))


# --- failures that may pass ---


def test_a_failure_that_passes_is_tried_again(serve, remote):
    async def respond(call):
        return web.Response(status=500) if call.number == 1 else await remote.brightness(call)

    server = serve(respond)
    reward = remote.made(server)
    assert score(reward, 7).item() == 7 and len(server.calls) == 2 and reward.failures == []


@pytest.mark.parametrize("status", [500, 502, 503, 429, 408])
def test_a_failure_that_stays_ends_after_a_bounded_number_of_tries(serve, remote, status):
    server = serve(always(lambda: web.Response(status=status, text="No room\nhere.")))
    reward = remote.made(server, retries=2)
    assert score(reward, 1, 2).isnan().all() and len(server.calls) == 6
    (failure,) = reward.failures
    place = f"127.0.0.1:{server.port}"
    assert failure == f"2 of 2 images: the {remote.who} at {place} answered {status}: 'No room here.', 3 tries."


def test_closed_connections_are_tried_again_and_told(serve, remote):
    async def respond(call):
        call.request.transport.close()
        await asyncio.sleep(10)

    server = serve(respond)
    reward = remote.made(server, retries=1)
    assert score(reward, 1).isnan().all() and len(server.calls) == 2
    assert "can't be reached" in reward.failures[0]


def test_nobody_listens(serve, remote):
    reward = remote.made(nothing_listens(), retries=1)
    assert score(reward, 1, 2, 3).isnan().all()
    (failure,) = reward.failures
    assert failure.startswith(f"3 of 3 images: the {remote.who} at 127.0.0.1:") and "can't be reached" in failure


def test_a_request_that_takes_too_long_is_given_up_and_repeated(serve, remote):
    async def respond(call):
        await asyncio.sleep(0 if call.number > 1 else 60)
        return await remote.brightness(call)

    server = serve(respond)
    assert score(remote.made(server, timeout=2), 7).item() == 7 and len(server.calls) == 2
    server.calls.clear()
    reward = remote.made(server, timeout=0.2, retries=0)
    assert score(reward, 7).isnan().all() and "took longer than 0.2 s" in reward.failures[0]


def test_the_deadline_ends_everything_and_keeps_what_was_answered(serve, remote):
    async def respond(call):
        await asyncio.sleep(0 if call.brightness < 100 else 60)
        return await remote.brightness(call)

    reward = remote.made(serve(respond), deadline=4)
    scores = score(reward, 1, 200, 2, 201)
    assert scores[[0, 2]].tolist() == [1, 2] and scores[[1, 3]].isnan().all()
    assert reward.failures == ["2 of 4 images: no answer before the deadline of 4 s."]


def test_no_try_is_begun_that_would_end_after_the_deadline(serve, remote, monkeypatch):
    monkeypatch.setattr(client, "FIRST_WAIT", 100)
    monkeypatch.setattr(client, "LONGEST_WAIT", 100)
    server = serve(always(lambda: web.Response(status=500)))
    reward = remote.made(server, deadline=20)
    assert score(reward, 1).isnan().all() and len(server.calls) == 1
    assert "answered 500" in reward.failures[0] and "deadline of 20 s" in reward.failures[0]


def test_retry_after_is_honoured_by_all_images(serve, remote):
    async def respond(call):
        if call.number == 1:
            return web.Response(status=429, headers={"Retry-After": "1"})
        return await remote.brightness(call)

    server = serve(respond)
    assert score(remote.made(server, concurrency=1), 1, 2, 3).tolist() == [1, 2, 3]
    assert len(server.calls) == 4 and server.calls[1].time - server.calls[0].time > 0.95


def test_retry_after_beyond_the_deadline_is_not_waited_for(serve, remote):
    server = serve(always(lambda: web.Response(status=429, headers={"Retry-After": "3600"})))
    reward = remote.made(server, concurrency=1, deadline=30)
    assert score(reward, 1, 2, 3).isnan().all() and len(server.calls) == 1
    assert "wait beyond the deadline of 30 s" in reward.failures[0]


def test_retry_after_of_one_server_leaves_the_other(serve, remote):
    busy = serve(always(lambda: web.Response(status=429, headers={"Retry-After": "3600"})))
    free = serve(remote.brightness)
    assert score(remote.made(busy, free), *range(8)).tolist() == list(range(8))


def test_retry_after_is_kept_when_the_other_server_has_failed(serve, remote):
    """Whichever comes back first is the next, and is waited for if it has asked for that."""
    one, other = serve(remote.brightness), serve(remote.brightness)
    for closed, rests, asked in ((100, 30, other), (0.2, 300, one)):
        reward, now = remote.made(one, other, concurrency=1), time.monotonic()
        asked_to_wait, resting = reward._client.servers
        asked_to_wait.rests_until = asked_to_wait.closed_until = now + closed
        resting.rests_until = now + rests
        before = len(one.calls), len(other.calls)
        assert score(reward, 1).tolist() == [1]
        called = one if len(one.calls) > before[0] else other
        assert called is asked and (asked is other or time.monotonic() >= asked_to_wait.closed_until)


def test_retry_after_forms():
    assert client._retry_after("7") == 7
    assert client._retry_after(formatdate(time.time() + 100, usegmt=True)) == pytest.approx(100, abs=5)
    assert client._retry_after(formatdate(time.time() - 100, usegmt=True)) == 0
    for rubbish in ("", "soon", "-5", "1e9", "9" * 400, "nan"):
        assert client._retry_after(rubbish) is None


def test_the_wait_grows_and_is_spread(monkeypatch):
    monkeypatch.setattr(client, "FIRST_WAIT", 1.0)
    waits = [[client._backoff(attempt) for _ in range(50)] for attempt in range(8)]
    assert set(waits[0]) == {0}
    for attempt, limit in enumerate([1, 2, 4, 8, 16, 20, 20], 1):
        assert limit / 2 <= min(waits[attempt]) < max(waits[attempt]) <= limit


# --- failures that stay ---


def text(body, **kwargs):
    return lambda: web.Response(text=body, **kwargs)


RUBBISH = {
    "no json": text("<html>It works!</html>"),
    "empty": text(""),
    "no choices": text('{"choices": []}'),
    "null": text("null"),
    "a list": text("[1]"),
    "choices of another kind": text('{"choices": {"0": 1}}'),
    "no content": text('{"choices": [{"message": {"content": null}}]}'),
    "an empty answer": text('{"choices": [{"message": {"content": " "}}]}'),
    "too deep": text("[" * 100_000),
    "no utf-8": lambda: web.Response(body=b"\xff\xfe\x00"),
    "packed": lambda: web.Response(body=b"\x1f\x8b\x08\x00rubbish", headers={"Content-Encoding": "gzip"}),
    "accepted": text("later", status=202),
}


@pytest.mark.parametrize("kind", RUBBISH)
def test_rubbish_is_no_score_and_not_asked_for_again(serve, remote, kind):
    server = serve(always(RUBBISH[kind]))
    reward = remote.made(server)
    assert score(reward, 1).isnan().all() and len(server.calls) == 1
    assert len(reward.failures) == 1 and reward.failures[0].isprintable() and len(reward.failures[0]) < 300


def test_an_endless_reply_is_not_read_to_its_end(serve, remote):
    sent = []

    async def respond(call):
        response = web.StreamResponse()
        await response.prepare(call.request)
        with contextlib.suppress(ConnectionError):
            for _ in range(1000):
                await response.write(b" " * 2**20)
                sent.append(1)
        return response

    reward = remote.made(serve(respond))
    assert score(reward, 1).isnan().all()
    assert "more than 1024 kB" in reward.failures[0] and len(sent) < 100


@pytest.mark.parametrize("status, word", [(400, "answered 400"), (404, "answered 404"), (401, "key"), (403, "key")])
def test_a_refused_request_is_not_repeated(serve, remote, status, word):
    server = serve(always(text("model 'vlm' does not exist", status=status)))
    reward = remote.made(server)
    assert score(reward, 1).isnan().all() and len(server.calls) == 1
    assert word in reward.failures[0] and ("does not exist" in reward.failures[0]) == (status in (400, 404))


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(serve, remote, status):
    target = serve(remote.brightness)
    server = serve(always(lambda: web.Response(status=status, headers={"Location": target.url + "/v1"})))
    reward = remote.made(server, key=KEY)
    assert score(reward, 1).isnan().all() and not target.calls and len(server.calls) == 1
    assert f"points elsewhere ({status})" in reward.failures[0]
