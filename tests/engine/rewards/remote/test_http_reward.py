"""A scorer behind HTTP: what goes out, what may come back. Its requests' fates are in test_client.py."""

import logging

import pytest
import torch
from aiohttp import web

from mixgrpo_engine.rewards import Reward, checked_scores
from mixgrpo_engine.rewards.references import References
from mixgrpo_engine.rewards.remote.http_reward import SILENT, HTTPOptions
from tests.engine.rewards.judge.judges import always, grays, score
from tests.engine.rewards.remote.scorers import brightness, made
from tests.fake_judge import brightness as brightness_of
from tests.fake_judge import opened, scored


async def each_brightness(call):
    return scored(*(brightness_of(image) for image in call.images))


def test_images_go_out_in_batches_and_scores_come_back_in_order(serve):
    server = serve(each_brightness)
    reward = made(server, options={"batch_size": 4}, key="sk-1")
    assert isinstance(reward, Reward)
    scores = score(reward, *range(10))
    assert scores.dtype == torch.float32 and scores.tolist() == list(range(10))
    assert sorted(len(call.urls) for call in server.calls) == [2, 4, 4]
    call = next(call for call in server.calls if len(call.urls) == 2)
    assert call.body.keys() == {"images", "prompts"} and call.body["prompts"] == ["picture 8", "picture 9"]
    assert call.request.method == "POST" and call.request.path == "/"
    assert call.request.headers["Authorization"] == "Bearer sk-1"


@pytest.mark.parametrize("image_format", ["png", "webp", "jpeg"])
def test_pictures_in_every_format_and_no_larger_than_asked(serve, image_format):
    server = serve(brightness)
    reward = made(f"{server.url}/a/b", options={"max_side": 64, "image_format": image_format})
    assert reward.score(torch.full((1, 100, 200, 3), 0.5), [""]).item() == pytest.approx(128, abs=1)
    (image,) = server.calls[0].images
    assert image.size == (64, 32) and image.format == image_format.upper()
    assert server.calls[0].request.path == "/a/b"


def test_references_travel_once_a_group(serve):
    async def respond(call):
        sources = [brightness_of(opened(each["images"]["image"])) for each in call.body["references"]]
        return scored(*(sources[index] for index in call.body["reference_of"]))

    server = serve(respond)
    one, other = (
        References({"image": torch.full((4, 4, 3), level / 255), "mask": torch.ones(4, 4)}, {"style": style})
        for level, style in ((10, "ink"), (20, "oil"))
    )
    scores = checked_scores(
        made(server, options={"batch_size": 8}), grays(*range(5)), ["x"] * 5, [one] * 3 + [other] * 2
    )
    assert scores.tolist() == [10, 10, 10, 20, 20]
    (call,) = server.calls
    assert [each["columns"] for each in call.body["references"]] == [{"style": "ink"}, {"style": "oil"}]
    assert opened(call.body["references"][0]["images"]["mask"]).getextrema() == ((255, 255),) * 3
    assert checked_scores(made(serve(brightness)), grays(7), ["x"]).tolist() == [7]


def test_a_video_goes_out_as_its_frames(serve):
    async def respond(call):
        return scored(*(sum(brightness_of(opened(frame)) for frame in video) for video in call.body["images"]))

    server = serve(respond)
    videos = torch.stack([grays(1, 2, 3), grays(10, 20, 30)])
    reward = made(server, options={"batch_size": 2})
    assert reward.score_videos(videos, ["a", "b"]).tolist() == [6, 60]
    assert [len(video) for video in server.calls[0].body["images"]] == [3, 3]
    videos[0, 1] = torch.nan
    assert reward.score_videos(videos, ["a", "b"]).isnan().tolist() == [True, False]
    assert reward.score_videos(videos[:, :1], ["a", "b"]).tolist() == [1, 10], "a video of one frame is a video"


def test_reasons_are_told_for_images_without_a_score(serve, caplog):
    server = serve(always(lambda: scored(1.5, None, None, reasons=["fine", "No face\nin it.", None])))
    reward = made(server, options={"batch_size": 3})
    with caplog.at_level(logging.WARNING, "mixgrpo"):
        scores = score(reward, 1, 2, 3)
    assert scores[0] == 1.5 and scores[1:].isnan().all()
    assert reward.failures == ["1 of 3 images: No face in it.", f"1 of 3 images: {SILENT}."]
    assert "No face in it." in caplog.text


LIES = {
    "too few": lambda: scored(1.0),
    "too many": lambda: scored(1.0, 2.0, 3.0),
    "reasons of others": lambda: scored(1.0, 2.0, reasons=["a"]),
    "a text": lambda: web.json_response({"scores": "12"}),
    "texts": lambda: scored("1", "2"),
    "lists": lambda: scored([1], [2]),
    "yes": lambda: scored(True, False),
    "infinite": lambda: web.Response(text='{"scores": [Infinity, -Infinity]}'),
    "not a number": lambda: web.Response(text='{"scores": [NaN, 1e999]}'),
    "beyond float32": lambda: scored(1e39, -1e39),
    "beyond any float": lambda: web.Response(text='{"scores": [1' + "0" * 400 + ", -1" + "0" * 400 + "]}"),
    "a list": lambda: web.json_response([1, 2]),
    "another thing": lambda: web.json_response({"score": [1, 2]}),
    "reasons of another kind": lambda: scored(None, None, reasons=[{"a": 1}, ["b"]]),
    "a reason without end": lambda: scored(None, None, reasons=["why " * 10_000] * 2),
}


@pytest.mark.parametrize("kind", LIES)
def test_a_reply_that_makes_no_sense_is_no_score_and_not_asked_for_again(serve, kind):
    server = serve(always(LIES[kind]))
    reward = made(server, options={"batch_size": 2})
    assert score(reward, 1, 2).isnan().all() and len(server.calls) == 1
    assert reward.failures[0].startswith("2 of 2 images: ") and len(reward.failures[0]) < 300


def test_one_lie_costs_the_other_requests_nothing(serve):
    async def respond(call):
        return scored() if call.brightness == 2 else await brightness(call)

    reward = made(serve(respond))
    assert score(reward, 1, 2, 3).isnan().tolist() == [False, True, False]
    assert reward.failures == ["1 of 3 images: the scorer gave 0 scores and 0 reasons for 1 images."]


def test_the_key_is_never_told_in_reasons_either(serve):
    key = "sk-a-secret-0123456789"
    reply = '{"scores": [null], "reasons": ["You sent sk-a-secret-01\\u00323456789"]}'
    reward = made(serve(always(lambda: web.Response(text=reply))), key=key)
    score(reward, 1)
    assert reward.failures == ["1 of 1 images: You sent [key]."]


def test_only_allowed_hosts_are_asked(serve):
    server = serve(brightness)
    with pytest.raises(PermissionError, match=f"The scorer's host 127.0.0.1:{server.port} isn't on the list"):
        made(server, allowed_hosts=["localhost:*"])
    assert not server.calls


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"max_side": 10}, "max_side is 10"),
        ({"image_format": "gif"}, "one of jpeg, png, webp"),
    ],
)
def test_a_bad_setting_is_one_sentence(settings, message):
    with pytest.raises(ValueError, match=message):
        HTTPOptions(("http://127.0.0.1:1",), **settings)
