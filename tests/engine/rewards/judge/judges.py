"""Judges that ask a fake server how bright a picture is, and answers for it."""

import socket

import torch

from mixgrpo_engine.rewards.judge.questions import Question
from mixgrpo_engine.rewards.judge.reward import JudgeOptions, JudgeReward
from mixgrpo_engine.rewards.remote.client import ClientOptions
from tests.fake_judge import chat

QUESTION = Question("How bright is {prompt}?", ("Score: {score}",))
FAR = {"timeout": 200, "deadline": 500}  # seconds that no test comes near, on a busy machine either


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
