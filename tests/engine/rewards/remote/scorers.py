"""Scorers behind HTTP that ask a fake server how bright a picture is, and answers for it."""

from mixgrpo_engine.rewards.remote.client import ClientOptions
from mixgrpo_engine.rewards.remote.http_reward import HTTPOptions, HTTPReward
from tests.engine.rewards.judge.judges import FAR
from tests.fake_judge import scored


def made(*servers, options=None, allowed_hosts=None, key="", **client):
    urls = tuple(getattr(server, "url", server) for server in servers)
    settings = {"batch_size": 1, **(options or {})}
    return HTTPReward(HTTPOptions(urls, **settings), ClientOptions(**{**FAR, **client}), allowed_hosts, key)


async def brightness(call):
    return scored(round(call.brightness))


def same(number):
    async def respond(call):
        return scored(number)

    return respond
