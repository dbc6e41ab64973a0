"""The VLM judge against a server that is slow, broken, busy, dead or hostile."""

import asyncio
import contextlib
import gc
import logging
import socket
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate

import pytest
import torch
from aiohttp import web

from mixgrpo_engine.rewards import Reward, judge_client
from mixgrpo_engine.rewards.judge import JudgeOptions, JudgeReward
from mixgrpo_engine.rewards.judge_client import ClientOptions
from mixgrpo_engine.rewards.judge_questions import PRESETS, Question
from tests.fake_judge import chat, fake_judge

QUESTION = Question("How bright is {prompt}?", ("Score: {score}",))
FAR = {"timeout": 200, "deadline": 500}  # seconds that no test comes near, on a busy machine either
KEY = "sk-a-secret-0123456789"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(judge_client, "FIRST_WAIT", 0.01)


@pytest.fixture
def serve():
    """`serve(respond)` is a running fake judge."""
    with contextlib.ExitStack() as stack:
        yield lambda respond: stack.enter_context(fake_judge(respond))


def made(*servers, options=None, allowed_hosts=None, key="", **client):
    urls = tuple(getattr(server, "url", server) for server in servers)
    settings = {"question": QUESTION, "image_format": "png", **(options or {})}
    return JudgeReward(JudgeOptions(urls, "vlm", **settings), ClientOptions(**{**FAR, **client}), allowed_hosts, key)


def grays(*levels, size=8):
    """Images of one level of gray each, 0 to 255."""
    return torch.tensor(levels).float()[:, None, None, None].expand(-1, size, size, 3) / 255


def score(reward, *levels):
    return reward.score(grays(*levels), [f"picture {level}" for level in levels])


async def brightness(call):
    return chat(f"Score: {call.brightness:.0f}")


def same(number):
    async def respond(call):
        return chat(f"Score: {number}")

    return respond


def always(make):
    async def respond(call):
        return make()

    return respond


def nothing_listens():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


# --- what is asked and answered ---


def test_every_image_gets_its_own_answer_whatever_order_they_come_in(serve):
    last_first = asyncio.Semaphore(0)

    async def respond(call):
        # The first one waits until all others are through.
        if call.brightness == 10:
            for _ in range(5):
                await last_first.acquire()
        else:
            last_first.release()
        return await brightness(call)

    reward = made(serve(respond))
    assert isinstance(reward, Reward)
    scores = score(reward, 10, 20, 30, 40, 50, 60)
    assert scores.dtype == torch.float32 and scores.tolist() == [10, 20, 30, 40, 50, 60]
    assert reward.failures == []


def test_the_request_is_a_deterministic_chat_with_picture_and_question(serve):
    server = serve(brightness)
    score(made(server, options={"max_tokens": 7, "seed": 5}), 128)
    (call,) = server.calls
    assert call.request.method == "POST" and call.request.path == "/v1/chat/completions"
    assert {k: v for k, v in call.body.items() if k != "messages"} == {
        "model": "vlm", "temperature": 0, "max_tokens": 7, "seed": 5,
    }  # fmt: skip
    assert call.text == "How bright is picture 128?" and call.url.startswith("data:image/png;base64,")
    assert call.image.size == (8, 8) and call.brightness == 128
    assert "Authorization" not in call.request.headers
    score(made(server), 128)
    assert "seed" not in server.calls[1].body


@pytest.mark.parametrize("image_format", ["png", "jpeg"])
def test_a_large_picture_is_made_smaller(serve, image_format):
    server = serve(brightness)
    reward = made(server, options={"max_side": 64, "image_format": image_format})
    assert reward.score(torch.full((1, 100, 200, 3), 0.5), [""]).item() == pytest.approx(128, abs=1)
    assert server.calls[0].image.size == (64, 32)
    assert server.calls[0].image.format == image_format.upper()


def test_numbers_are_mapped_to_the_unit_range_and_those_outside_are_no_score(serve):
    reward = made(serve(brightness), options={"to_unit": (50.0, 150.0)})
    scores = score(reward, 50, 75, 150, 151)
    assert scores[:3].tolist() == [0, 0.25, 1] and scores[3].isnan()
    assert "151 is outside 50 to 150" in reward.failures[0]


def test_the_published_question_end_to_end(serve):
    server = serve(always(lambda: chat("Alignment Score (1-5): 4.25\nCoherence Score (1-5): 3\nStyle Score (1-5): 2")))
    assert [score(made(server, options={"question": PRESETS[name]}), 0).item() for name in ("semantic", "style")] == [
        4.25,
        2,
    ]
    assert "Text Caption: [picture 0]" in server.calls[0].text


def test_an_answer_without_a_score_is_nan_with_its_beginning(serve, caplog):
    async def respond(call):
        return chat("I'd rather not say.\nReally." if call.brightness < 100 else "Score: 3")

    reward = made(serve(respond))
    with caplog.at_level(logging.WARNING, "mixgrpo"):
        scores = score(reward, 1, 2, 200)
    assert scores.isnan().tolist() == [True, True, False]
    (failure,) = reward.failures
    assert failure.startswith("2 of 3 images: ") and "I'd rather not say. Really." in failure
    assert "I'd rather not say. Really." in caplog.text
    assert score(reward, 200).item() == 3 and reward.failures == []


def test_an_image_that_is_not_finite_is_not_sent(serve):
    server = serve(brightness)
    images = grays(1, 2)
    images = torch.cat([images, torch.full_like(images[:1], torch.nan)])
    reward = made(server)
    assert reward.score(images, ["a", "b", "c"]).isnan().tolist() == [False, False, True]
    assert len(server.calls) == 2 and "1 of 3 images" in reward.failures[0]
    assert reward.score(images[:0], []).shape == (0,)
    with pytest.raises(ValueError, match="3 images, but 1 prompts"):
        reward.score(images, ["a"])


# --- many at once ---


def test_concurrency_reaches_its_bound_and_never_passes_it(serve):
    server = serve(None)
    together = asyncio.Event()

    async def respond(call):
        if server.at_once == 3:
            together.set()
        await together.wait()
        await asyncio.sleep(0.01)
        return await brightness(call)

    server.respond = respond
    assert score(made(server, concurrency=3), *range(12)).tolist() == list(range(12))
    assert server.most_at_once == 3


def test_servers_are_asked_in_turn(serve):
    one, other = serve(same(1)), serve(same(2))
    score(made(one, other), *range(10))
    assert len(one.calls) == len(other.calls) == 5


def test_a_dead_server_costs_no_image_and_is_left_alone(serve, monkeypatch):
    monkeypatch.setattr(judge_client, "REST", 3600)
    dead, alive = serve(always(lambda: web.Response(status=503))), serve(brightness)
    reward = made(dead, alive, concurrency=1)
    assert score(reward, *range(6)).tolist() == list(range(6))
    assert len(dead.calls) == 1
    assert score(reward, *range(6)).tolist() == list(range(6))
    assert len(dead.calls) == 1, "it still rests in the next call"
    reward._client.servers[0].rests_until = time.monotonic()
    score(reward, 1, 2)
    assert len(dead.calls) == 2, "once it has rested it is tried again"


def test_a_server_that_nobody_runs_costs_no_image(serve):
    assert score(made(nothing_listens(), serve(brightness)), *range(6)).tolist() == list(range(6))


# --- failures that may pass ---


def test_a_failure_that_passes_is_tried_again(serve):
    async def respond(call):
        return web.Response(status=500) if call.number == 1 else await brightness(call)

    server = serve(respond)
    reward = made(server)
    assert score(reward, 7).item() == 7 and len(server.calls) == 2 and reward.failures == []


@pytest.mark.parametrize("status", [500, 502, 503, 429, 408])
def test_a_failure_that_stays_ends_after_a_bounded_number_of_tries(serve, status):
    server = serve(always(lambda: web.Response(status=status, text="No room\nhere.")))
    reward = made(server, retries=2)
    assert score(reward, 1, 2).isnan().all() and len(server.calls) == 6
    (failure,) = reward.failures
    place = f"127.0.0.1:{server.port}"
    assert failure == f"2 of 2 images: the judge at {place} answered {status}: 'No room here.', 3 tries."


def test_closed_connections_are_tried_again_and_told(serve):
    async def respond(call):
        call.request.transport.close()
        await asyncio.sleep(10)

    server = serve(respond)
    reward = made(server, retries=1)
    assert score(reward, 1).isnan().all() and len(server.calls) == 2
    assert "can't be reached" in reward.failures[0]


def test_nobody_listens(serve):
    reward = made(nothing_listens(), retries=1)
    assert score(reward, 1, 2, 3).isnan().all()
    (failure,) = reward.failures
    assert failure.startswith("3 of 3 images: the judge at 127.0.0.1:") and "can't be reached" in failure


def test_a_request_that_takes_too_long_is_given_up_and_repeated(serve):
    async def respond(call):
        await asyncio.sleep(0 if call.number > 1 else 60)
        return await brightness(call)

    server = serve(respond)
    assert score(made(server, timeout=2), 7).item() == 7 and len(server.calls) == 2
    server.calls.clear()
    reward = made(server, timeout=0.2, retries=0)
    assert score(reward, 7).isnan().all() and "took longer than 0.2 s" in reward.failures[0]


def test_the_deadline_ends_everything_and_keeps_what_was_answered(serve):
    async def respond(call):
        await asyncio.sleep(0 if call.brightness < 100 else 60)
        return await brightness(call)

    reward = made(serve(respond), deadline=4)
    scores = score(reward, 1, 200, 2, 201)
    assert scores[[0, 2]].tolist() == [1, 2] and scores[[1, 3]].isnan().all()
    assert reward.failures == ["2 of 4 images: no answer before the deadline of 4 s."]


def test_no_try_is_begun_that_would_end_after_the_deadline(serve, monkeypatch):
    monkeypatch.setattr(judge_client, "FIRST_WAIT", 100)
    monkeypatch.setattr(judge_client, "LONGEST_WAIT", 100)
    server = serve(always(lambda: web.Response(status=500)))
    reward = made(server, deadline=20)
    assert score(reward, 1).isnan().all() and len(server.calls) == 1
    assert "answered 500" in reward.failures[0] and "deadline of 20 s" in reward.failures[0]


def test_retry_after_is_honoured_by_all_images(serve):
    async def respond(call):
        if call.number == 1:
            return web.Response(status=429, headers={"Retry-After": "1"})
        return await brightness(call)

    server = serve(respond)
    assert score(made(server, concurrency=1), 1, 2, 3).tolist() == [1, 2, 3]
    assert len(server.calls) == 4 and server.calls[1].time - server.calls[0].time > 0.95


def test_retry_after_beyond_the_deadline_is_not_waited_for(serve):
    server = serve(always(lambda: web.Response(status=429, headers={"Retry-After": "3600"})))
    reward = made(server, concurrency=1, deadline=30)
    assert score(reward, 1, 2, 3).isnan().all() and len(server.calls) == 1
    assert "wait beyond the deadline of 30 s" in reward.failures[0]


def test_retry_after_of_one_server_leaves_the_other(serve):
    busy = serve(always(lambda: web.Response(status=429, headers={"Retry-After": "3600"})))
    free = serve(brightness)
    assert score(made(busy, free), *range(8)).tolist() == list(range(8))


def test_retry_after_forms():
    assert judge_client._retry_after("7") == 7
    assert judge_client._retry_after(formatdate(time.time() + 100, usegmt=True)) == pytest.approx(100, abs=5)
    assert judge_client._retry_after(formatdate(time.time() - 100, usegmt=True)) == 0
    for rubbish in ("", "soon", "-5", "1e9", "9" * 400, "nan"):
        assert judge_client._retry_after(rubbish) is None


def test_the_wait_grows_and_is_spread(monkeypatch):
    monkeypatch.setattr(judge_client, "FIRST_WAIT", 1.0)
    waits = [[judge_client._backoff(attempt) for _ in range(50)] for attempt in range(8)]
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
def test_rubbish_is_no_score_and_not_asked_for_again(serve, kind):
    server = serve(always(RUBBISH[kind]))
    reward = made(server)
    assert score(reward, 1).isnan().all() and len(server.calls) == 1
    assert len(reward.failures) == 1 and reward.failures[0].isprintable() and len(reward.failures[0]) < 300


def test_an_endless_reply_is_not_read_to_its_end(serve):
    sent = []

    async def respond(call):
        response = web.StreamResponse()
        await response.prepare(call.request)
        with contextlib.suppress(ConnectionError):
            for _ in range(1000):
                await response.write(b" " * 2**20)
                sent.append(1)
        return response

    reward = made(serve(respond))
    assert score(reward, 1).isnan().all()
    assert "more than 1024 kB" in reward.failures[0] and len(sent) < 100


@pytest.mark.parametrize("status, word", [(400, "answered 400"), (404, "answered 404"), (401, "key"), (403, "key")])
def test_a_refused_request_is_not_repeated(serve, status, word):
    server = serve(always(text("model 'vlm' does not exist", status=status)))
    reward = made(server)
    assert score(reward, 1).isnan().all() and len(server.calls) == 1
    assert word in reward.failures[0] and ("does not exist" in reward.failures[0]) == (status in (400, 404))


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(serve, status):
    target = serve(brightness)
    server = serve(always(lambda: web.Response(status=status, headers={"Location": target.url + "/v1"})))
    reward = made(server, key=KEY)
    assert score(reward, 1).isnan().all() and not target.calls and len(server.calls) == 1
    assert f"points elsewhere ({status})" in reward.failures[0]


# --- hosts, key, environment ---


def test_only_allowed_hosts_are_asked(serve):
    server = serve(brightness)
    with pytest.raises(PermissionError, match=f"127.0.0.1:{server.port} isn't on the list"):
        made(server, allowed_hosts=[])
    with pytest.raises(PermissionError):
        made(server, allowed_hosts=[f"127.0.0.1:{server.port + 1}", "localhost:*"])
    for hosts in ([f"127.0.0.1:{server.port}"], ["127.0.0.1:*"], ["*"], None):
        assert score(made(server, allowed_hosts=hosts), 3).item() == 3
    assert len(server.calls) == 4


@pytest.mark.parametrize("hosts, sent", [(None, True), (["127.0.0.1:*"], True), (["*"], False)])
def test_the_key_goes_to_named_hosts_only(serve, hosts, sent):
    server = serve(brightness)
    score(made(server, allowed_hosts=hosts, key=KEY), 1)
    assert server.calls[0].request.headers.get("Authorization") == (f"Bearer {KEY}" if sent else None)


@pytest.mark.parametrize("status", [200, 400, 401, 500])
def test_the_key_is_never_told_even_when_the_server_echoes_it(serve, caplog, status):
    async def respond(call):
        echo = call.request.headers["Authorization"]
        return chat(f"You sent {echo}") if status == 200 else web.Response(status=status, text=echo)

    reward = made(serve(respond), key=KEY, retries=0)
    with caplog.at_level(logging.DEBUG):
        score(reward, 1)
    assert reward.failures and "secret" not in "".join(reward.failures) + caplog.text + repr(reward._client.servers)


def test_the_environments_proxy_is_not_used(serve, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, nothing_listens())
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert score(made(serve(brightness), retries=0), 3).item() == 3


# --- where it is called from ---


def test_it_works_inside_a_running_loop(serve):
    reward = made(serve(brightness))

    async def inside():
        return score(reward, 1, 2)

    # In a thread of its own: the tests' own thread may have a loop already.
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(asyncio.run, inside()).result().tolist() == [1, 2]


def test_nothing_is_left_behind(serve):
    server = serve(brightness)
    # Before: the fake judge's own threads.
    score(made(server), 1)
    threads = set(threading.enumerate())
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for deadline in (500, 0.3):

            async def respond(call, slow=deadline < 1):
                await asyncio.sleep(5 if slow else 0)
                return await brightness(call)

            server.respond = respond
            score(made(server, deadline=deadline), *range(8))
        gc.collect()
    assert set(threading.enumerate()) <= threads
    assert not [w for w in warned if issubclass(w.category, ResourceWarning)]


# --- settings ---


@pytest.mark.parametrize(
    "options, client, message",
    [
        ({"to_unit": (5.0, 1.0)}, {}, "minimum must be below the maximum"),
        ({"to_unit": (0.0, float("inf"))}, {}, "minimum must be below the maximum"),
        ({"max_side": 1}, {}, "max_side is 1: it must be from 64 to 4096"),
        ({"image_format": "gif"}, {}, "image_format is 'gif': it must be one of jpeg, png"),
        ({"max_tokens": 0}, {}, "max_tokens is 0"),
        ({}, {"concurrency": 0}, "concurrency of the judge is 0"),
        ({}, {"retries": -1}, "retries of the judge is -1"),
        ({}, {"timeout": 0}, "timeout of the judge is 0"),
        ({}, {"deadline": float("nan")}, "deadline of the judge is nan"),
    ],
)
def test_a_bad_setting_is_one_sentence(options, client, message):
    with pytest.raises(ValueError, match=message):
        made("http://127.0.0.1:1", options=options, **client)


def test_no_url_no_model_and_a_broken_key_are_one_sentence():
    with pytest.raises(ValueError, match="no URL"):
        made()
    with pytest.raises(ValueError, match="model is empty"):
        JudgeOptions(("http://127.0.0.1:1",), " ")
    with pytest.raises(ValueError, match="key holds") as error:
        made("http://127.0.0.1:1", key="secret\r\nX-Other: 1")
    assert "secret" not in str(error.value)


class Cancelled(BaseException):
    """As ComfyUI's newer interrupt, which is no Exception."""


def test_the_caller_can_stop_it_while_a_server_hangs(serve):
    async def respond(call):
        await asyncio.sleep(60)

    server = serve(respond)
    # Without the stop it would end by the deadline, with scores of NaN.
    reward = made(server, timeout=20, retries=0)

    def cancel():
        if server.calls:
            raise Cancelled

    reward.check = cancel
    with pytest.raises(Cancelled):
        score(reward, 1, 2)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("mixgrpo-judge")]
