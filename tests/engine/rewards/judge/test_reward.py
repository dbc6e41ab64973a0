"""The VLM judge: what is asked and answered, who is asked, from where it is called, settings."""

import asyncio
import gc
import logging
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from aiohttp import web

from mixgrpo_engine.rewards import Reward, asking, checked_scores
from mixgrpo_engine.rewards.judge.questions import PRESETS
from mixgrpo_engine.rewards.judge.reward import JudgeOptions
from mixgrpo_engine.rewards.references import References
from mixgrpo_engine.rewards.remote import client
from tests.engine.rewards.judge.judges import always, brightness, grays, made, nothing_listens, score
from tests.fake_judge import brightness as brightness_of
from tests.fake_judge import chat

KEY = "sk-a-secret-0123456789"

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
    assert call.text == "How bright is picture 128?" and call.urls[0].startswith("data:image/png;base64,")
    assert call.images[0].size == (8, 8) and call.brightness == 128
    assert "Authorization" not in call.request.headers
    score(made(server), 128)
    assert "seed" not in server.calls[1].body


@pytest.mark.parametrize("image_format", ["png", "jpeg"])
def test_a_large_picture_is_made_smaller(serve, image_format):
    server = serve(brightness)
    reward = made(server, options={"max_side": 64, "image_format": image_format})
    assert reward.score(torch.full((1, 100, 200, 3), 0.5), [""]).item() == pytest.approx(128, abs=1)
    assert server.calls[0].images[0].size == (64, 32)
    assert server.calls[0].images[0].format == image_format.upper()


def test_numbers_are_mapped_to_the_unit_range_and_those_outside_are_no_score(serve):
    reward = made(serve(brightness), options={"to_unit": (50.0, 150.0)})
    scores = score(reward, 50, 75, 150, 151)
    assert scores[:3].tolist() == [0, 0.25, 1] and scores[3].isnan()
    assert "151 is outside 50 to 150" in reward.failures[0]


@pytest.mark.parametrize("to_unit, scores", [((2.0, 10.0), [None, 0.25, 0.5]), ((4.0, 6.0), [None, 0, 1])])
def test_the_range_holds_for_the_mean_of_several_numbers_not_for_each(serve, to_unit, scores):
    answers = [(10, 0, 10), (4, 4, 4), (3, 8, 9)]  # their geometric means: 0, 4, 6

    async def respond(call):
        axes = zip(("Instruction", "Preservation", "Quality"), answers[int(call.brightness)], strict=True)
        return chat("\n".join(f"{name} Score: {number}" for name, number in axes))

    reward = made(serve(respond), options={"question": PRESETS["edit"], "to_unit": to_unit})
    sources = [References({"image": torch.zeros(4, 4, 3)})] * 3
    got = checked_scores(reward, grays(0, 1, 2), ["make it blue"] * 3, sources)
    assert [None if each.isnan() else pytest.approx(each.item()) for each in got] == scores
    assert f"score 0 is outside {to_unit[0]:g} to {to_unit[1]:g}" in reward.failures[0]


def test_the_published_question_end_to_end(serve):
    server = serve(always(lambda: chat("Alignment Score (1-5): 4.25\nCoherence Score (1-5): 3\nStyle Score (1-5): 2")))
    assert [score(made(server, options={"question": PRESETS[name]}), 0).item() for name in ("semantic", "style")] == [
        4.25,
        2,
    ]
    assert "Text Caption: [picture 0]" in server.calls[0].text


def test_an_edit_is_shown_beside_its_source(serve):
    lines = "Instruction Score (0-10): 9\nPreservation Score (0-10): 4\nQuality Score (0-10): 6"
    server = serve(always(lambda: chat(lines)))
    reward = made(server, options={"question": PRESETS["edit"], "to_unit": (0.0, 10.0)})
    sources = [References({"image": torch.full((4, 4, 3), level / 255)}) for level in (10, 20)]
    scores = checked_scores(reward, grays(30, 40), ["make it blue"] * 2, sources)
    assert scores.tolist() == pytest.approx([0.6, 0.6])  # the cube root of 9 x 4 x 6 is 6
    shown = sorted(tuple(brightness_of(image) for image in call.images) for call in server.calls)
    assert shown == [(10, 30), (20, 40)]
    assert "Instruction: [make it blue]" in server.calls[0].text
    with pytest.raises(ValueError, match="'judge' compares with the picture 'image'.*prompts only"):
        checked_scores(reward, grays(30), ["make it blue"])
    assert not made(server).uses_references


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


def test_an_answer_that_was_cut_off_is_no_score_and_is_asked_once(serve):
    """Chat templates that open <think> themselves leave no mark of it in the answer."""
    reasons = iter(["length", "stop", None])

    async def respond(call):
        message = {"role": "assistant", "content": "First idea: Score: 1"}
        return web.json_response({"choices": [{"message": message, "finish_reason": next(reasons)}]})

    server = serve(respond)
    reward = made(server)
    assert score(reward, 1).isnan().all() and len(server.calls) == 1
    assert "was cut off at max_tokens, which must be higher" in reward.failures[0]
    assert score(reward, 1).item() == score(reward, 1).item() == 1, "some servers say nothing"


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
        ({"image_format": "gif"}, {}, "image_format is 'gif': it must be one of jpeg, png, webp"),
        ({"max_tokens": 0}, {}, "max_tokens is 0"),
        ({}, {"concurrency": 0}, "concurrency is 0"),
        ({}, {"retries": -1}, "retries is -1"),
        ({}, {"timeout": 0}, "timeout is 0"),
        ({}, {"deadline": float("nan")}, "deadline is nan"),
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

    with pytest.raises(Cancelled), asking(cancel):
        score(reward, 1, 2)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(client.THREAD)]
