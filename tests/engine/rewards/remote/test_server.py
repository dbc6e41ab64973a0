"""A Python callable as a scorer's server, asked by the reward and by strangers."""

import base64
import contextlib
import io
import json
import threading
import urllib.error
import urllib.request

import numpy as np
import pytest
import torch
from PIL import Image

from mixgrpo_engine.rewards import checked_scores
from mixgrpo_engine.rewards.references import References
from mixgrpo_engine.rewards.server import application
from tests.engine.rewards.judge.judges import grays, score
from tests.engine.rewards.remote.scorers import made
from tests.fake_judge import brightness
from tests.scorer_server import running


@pytest.fixture
def scorer():
    """`scorer(score, ...)` is the reward that asks a server of this callable."""
    with contextlib.ExitStack() as stack:

        def run(score, key="", videos=False, options=None):
            url = stack.enter_context(running(application(score, key, videos)))
            return made(url, options={"batch_size": 8, **(options or {})}, key=key, retries=0)

        yield run


def bright(images, prompts):
    return [brightness(image) for image in images]


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor])
def test_numbers_of_any_kind_arrive(scorer, kind):
    assert score(scorer(lambda images, prompts: kind(bright(images, prompts))), 1, 2).tolist() == [1, 2]


def test_it_gets_rgb_pictures_prompts_and_references(scorer):
    seen = []

    def keep(images, prompts, references):
        seen.append((images, prompts, references))
        return [0.0] * len(images)

    reward = scorer(keep, options={"image_format": "webp"})
    item = References({"image": torch.ones(4, 6, 3)}, {"style": "ink"})
    checked_scores(reward, grays(5, 6), ["a", "b"], [item, References()])
    ((images, prompts, (first, second)),) = seen
    assert [image.mode for image in images] == ["RGB", "RGB"] and images[0].size == (8, 8) and prompts == ["a", "b"]
    assert first["images"]["image"].size == (6, 4) and first["columns"] == {"style": "ink"}
    assert second == {"images": {}, "columns": {}}
    seen.clear()
    checked_scores(reward, grays(5), ["a"])
    assert seen[0][2] == [{"images": {}, "columns": {}}]


def test_what_it_cannot_score_has_a_reason(scorer):
    reward = scorer(lambda images, prompts: ([1.0, None, float("nan")], [None, "No face.", None]))
    assert score(reward, 1, 2, 3).isnan().tolist() == [False, True, True]
    assert "1 of 3 images: No face." in reward.failures


def test_a_scorer_of_images_scores_a_video_by_the_mean_of_its_frames(scorer):
    videos = torch.stack([grays(1, 2, 3), grays(10, 20, 60)])
    assert scorer(bright).score_videos(videos, ["a", "b"]).tolist() == [2, 30]
    whole = scorer(lambda videos, prompts: [len(frames) for frames in videos], videos=True)
    assert whole.score_videos(videos, ["a", "b"]).tolist() == [3, 3]


def fails(images, prompts):
    raise RuntimeError("No GPU left.")


@pytest.mark.parametrize(
    "score_of, said", [(fails, "RuntimeError: No GPU left."), (lambda images, prompts: [1.0], "1 scores and 1 reasons")]
)
def test_a_callable_that_fails_is_told_and_the_server_goes_on(scorer, score_of, said):
    reward = scorer(score_of)
    for _ in range(2):
        assert score(reward, 1, 2).isnan().all() and said in reward.failures[0]


def test_calls_come_one_at_a_time(scorer):
    inside, most = [], []

    def slowly(images, prompts):
        inside.append(1)
        most.append(len(inside))
        threading.Event().wait(0.02)
        inside.pop()
        return bright(images, prompts)

    assert score(scorer(slowly, options={"batch_size": 1}), *range(6)).tolist() == list(range(6))
    assert max(most) == 1 and len(most) == 6


def test_without_the_key_nobody_is_answered(scorer):
    reward = scorer(bright, key="sk-1")
    assert score(reward, 3).item() == 3
    reward._client.servers[0].key = "sk-2"
    assert score(reward, 3).isnan().all() and "refuses the key (401)" in reward.failures[0]


def data_url(image, kind="png"):
    file = io.BytesIO()
    image.save(file, format=kind.upper())
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


PICTURE = data_url(Image.new("RGB", (4, 4)))
STRANGE = {
    "no json": b"{",
    "a list": [],
    "no images": {"prompts": ["a"]},
    "a number": {"images": [1], "prompts": ["a"]},
    "too few prompts": {"images": [PICTURE, PICTURE], "prompts": ["a"]},
    "prompts of another kind": {"images": [PICTURE], "prompts": [1]},
    "an address": {"images": ["http://127.0.0.1:1/a.png"], "prompts": ["a"]},
    "a file": {"images": ["file:///etc/passwd"], "prompts": ["a"]},
    "another format": {"images": [data_url(Image.new("RGB", (4, 4)), "gif")], "prompts": ["a"]},
    "a format that it isn't": {"images": [PICTURE.replace("png", "jpeg")], "prompts": ["a"]},
    "no base64": {"images": ["data:image/png;base64,@@@"], "prompts": ["a"]},
    "half a picture": {"images": [PICTURE[:60]], "prompts": ["a"]},
    "a picture that unpacks to gigabytes": {"images": [data_url(Image.new("1", (20_000, 20_000)))], "prompts": ["a"]},
    "a video without frames": {"images": [[]], "prompts": ["a"]},
    "references of nobody": {"images": [PICTURE], "prompts": ["a"], "references": [{"images": {}, "columns": {}}]},
    "a reference that isn't there": {
        "images": [PICTURE], "prompts": ["a"], "references": [{"images": {}, "columns": {}}], "reference_of": [5],
    },
}  # fmt: skip


def test_strange_requests_are_refused_and_never_reach_the_callable():
    calls = []
    with running(application(lambda images, prompts: calls.append(1) or [1.0])) as url:
        for kind, body in STRANGE.items():
            sent = body if isinstance(body, bytes) else json.dumps(body).encode()
            request = urllib.request.Request(url, sent, {"Content-Type": "application/json"})
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(request)
            assert refused.value.code == 400, kind
            assert refused.value.read().decode().startswith("This is no request of a scorer"), kind
        assert not calls
        sent = json.dumps({"images": [PICTURE], "prompts": ["a"]}).encode()
        urllib.request.urlopen(urllib.request.Request(url, sent))
        assert calls
