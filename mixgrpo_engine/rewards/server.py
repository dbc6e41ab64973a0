"""Any Python callable as a scorer that MixGRPO Reward: HTTP asks.

    from mixgrpo_engine.rewards.server import serve

    def score(images, prompts):  # PIL images and texts
        return [image.entropy() for image in images]

    serve(score, port=8100)

It needs aiohttp and Pillow, and is meant for a process, machine or environment of its own.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import inspect
import io
import logging
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aiohttp import web
from PIL import Image

LOG = logging.getLogger("mixgrpo")
KEY = "MIXGRPO_SCORER_KEY"
MAX_REQUEST = 512 * 2**20  # bytes
MAX_PIXELS = 64 * 2**20  # of one picture: a small file can unpack to more memory than there is
FORMATS = {"png": "PNG", "jpeg": "JPEG", "webp": "WEBP"}

Score = Callable[..., Sequence]


def serve(score: Score, host: str = "127.0.0.1", port: int = 8100, videos: bool = False) -> None:
    """Serves until it is interrupted, at any path. See application(); the key is the environment's MIXGRPO_SCORER_KEY.

    host: "127.0.0.1" answers this machine only, "0.0.0.0" everybody who reaches it: set a key then.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    web.run_app(application(score, os.environ.get(KEY, ""), videos), host=host, port=port)


def application(score: Score, key: str = "", videos: bool = False) -> web.Application:
    """score(images, prompts), or score(images, prompts, references): a list of RGB PIL images, their prompts, and
    {"images": {name: PIL image}, "columns": {name: text}} of each, empty where there are none. It gives a number an
    image, None where it can't; or (numbers, a list of reasons), a text or None each. It runs in one thread, a request
    at a time; what it raises is answered as an error of the server, with its words.

    key: what a request must bring as its bearer token; "" asks for none. videos: score takes videos, lists of PIL
    images, in the place of images; without it a video's score is the mean of its frames'.
    """
    app = web.Application(client_max_size=MAX_REQUEST)
    thread = ThreadPoolExecutor(1, "scorer")

    async def answer(request: web.Request) -> web.Response:
        # Compared in a time that tells nothing of where they differ.
        if key and not hmac.compare_digest(request.headers.get("Authorization", "").encode(), f"Bearer {key}".encode()):
            return web.Response(status=401, text="The key is missing or wrong.")
        loop = asyncio.get_running_loop()
        try:
            given = await loop.run_in_executor(None, _unpacked, await request.json())
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            return web.Response(status=400, text=f"This is no request of a scorer: {error}")
        try:
            scores, reasons = await loop.run_in_executor(thread, _scored, score, videos, *given)
        except Exception as error:  # a callable may fail in any way, and the server must go on
            LOG.exception("The scorer has failed.")
            return web.Response(status=500, text=f"{type(error).__name__}: {error}")
        return web.json_response({"scores": scores, "reasons": reasons})

    app.router.add_post("/{path:.*}", answer)

    async def stop(_: web.Application) -> None:
        thread.shutdown(wait=False, cancel_futures=True)

    app.on_cleanup.append(stop)
    return app


def _unpacked(body: dict) -> tuple[list[list[Image.Image]], list[str], list[dict]]:
    """(each image's or video's frames, prompts, references of each). Raises what a wrong body makes Python raise."""
    shown = [[*map(_picture, [sent] if isinstance(sent, str) else sent)] for sent in body["images"]]
    prompts = body["prompts"]
    if len(prompts) != len(shown) or not all(isinstance(prompt, str) for prompt in prompts) or not all(shown):
        raise ValueError(f"{len(shown)} images, but {len(prompts)} prompts, or a video without frames")
    different = [
        {"images": {name: _picture(sent) for name, sent in each["images"].items()}, "columns": each["columns"]}
        for each in body.get("references", [])
    ]
    if not different:
        return shown, prompts, [{"images": {}, "columns": {}} for _ in shown]
    if len(body["reference_of"]) != len(shown):
        raise ValueError(f"{len(shown)} images, but {len(body['reference_of'])} references")
    return shown, prompts, [different[index] for index in body["reference_of"]]


def _picture(url: str) -> Image.Image:
    """The RGB picture of a data URL; nothing is ever fetched."""
    head, _, packed = url.partition(",")
    kind = head.removeprefix("data:image/").removesuffix(";base64")
    if head != f"data:image/{kind};base64" or kind not in FORMATS:
        raise ValueError("a picture isn't a data URL of png, jpeg or webp")
    try:
        image = Image.open(io.BytesIO(base64.b64decode(packed, validate=True)), formats=[FORMATS[kind]])
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"a picture has {image.width} x {image.height} pixels")
        return image.convert("RGB")
    except (binascii.Error, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"a picture can't be read ({error})") from None


def _scored(
    score: Score, videos: bool, shown: list[list[Image.Image]], prompts: list[str], references: list[dict]
) -> tuple[list[float | None], list[str | None]]:
    """(scores, reasons) of each image or video. Raises ValueError when the callable gives another number of them."""
    counts = [1 if videos else len(frames) for frames in shown]
    images: list[Any] = list(shown) if videos else [frame for frames in shown for frame in frames]
    texts, beside = _repeated(counts, prompts, references)
    wanted = "references" in inspect.signature(score).parameters
    given = score(images, texts, **({"references": beside} if wanted else {}))
    told = isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], list)
    numbers = list(given[0] if told else given)
    reasons = given[1] if told else [None] * len(numbers)
    if not len(numbers) == len(reasons) == len(images):
        raise ValueError(f"score() gave {len(numbers)} scores and {len(reasons)} reasons for {len(images)} images")
    means: list[float | None] = []
    why: list[str | None] = []
    start = 0
    for count in counts:
        part = [math.nan if number is None else float(number) for number in numbers[start : start + count]]
        mean = sum(part) / count
        means.append(mean if math.isfinite(mean) else None)
        why.append(next((str(reason) for reason in reasons[start : start + count] if reason), None))
        start += count
    return means, why


def _repeated(counts: list[int], *columns: list) -> list[list]:
    return [[each for each, count in zip(column, counts, strict=True) for _ in range(count)] for column in columns]
