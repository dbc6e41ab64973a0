"""Any scorer behind HTTP: images and prompts go out as JSON, scores and reasons come back. See ../server.py."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from .. import check_batch
from ..pictures import NOT_FINITE, check_packing, counted, data_url, picture, reference_picture
from ..references import References
from .client import Client, ClientOptions, NoAnswer, servers, start_of

LOG = logging.getLogger("mixgrpo")
SILENT = "the scorer gave no score and no reason"

Shown = list[Image.Image]  # an image, or the frames of a video


@dataclass(frozen=True)
class HTTPOptions:
    """Who is asked, and what is sent; ClientOptions say how."""

    # The scorer's addresses, http://host:port/path, asked in turn.
    urls: tuple[str, ...]
    # Images (or videos) of a request.
    batch_size: int = 8
    # Pixels: larger pictures are made smaller before they are sent.
    max_side: int = 4096
    # Of the pictures that are sent: png is exact, webp and jpeg (quality 95) are smaller.
    image_format: str = "png"

    def __post_init__(self) -> None:
        """Raises ValueError with one sentence for a value that can't work."""
        check_packing(self.image_format, self.max_side)
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}: it must be at least 1.")


@dataclass(frozen=True)
class _Batch:
    rows: list[int]
    shown: list[Shown]
    prompts: list[str]
    references: list[References]


class HTTPReward:
    """The numbers that a scorer at another host gives, as they are.

    Request: {"images": [...], "prompts": [...], "references": [...], "reference_of": [...]}. An image is a data URL, a
    video a list of them, its frames. references: {"images": {name: data URL}, "columns": {name: text}} each, without
    repetitions; reference_of: which of them belongs to each image, an index. Both are there only if there are any.
    Reply: {"scores": [number or null, ...], "reasons": [text or null, ...]}; reasons may be absent.
    """

    name = "http"
    uses_references = True

    def __init__(
        self,
        options: HTTPOptions,
        client: ClientOptions | None = None,
        allowed_hosts: Sequence[str] | None = None,
        key: str = "",
    ) -> None:
        """allowed_hosts, key: as in client.servers(), which says what is raised."""
        self.options = options
        self.failures: list[str] = []
        found = servers("scorer", options.urls, allowed_hosts, key)
        self._client = Client("scorer", found, client or ClientOptions(), _scores)

    def score(self, images: Tensor, prompts: Sequence[str], references: Sequence[References] = ()) -> Tensor:
        """float32 (batch,); NaN, with its reason in `failures`, where there was no answer or no finite number in it.

        Raises nothing for network trouble, ValueError for a wrong shape. Takes up to the deadline.
        """
        check_batch(images, prompts)
        return self._score([[picture(image)] for image in images], prompts, references, one=True)

    def score_videos(self, videos: Tensor, prompts: Sequence[str], references: Sequence[References] = ()) -> Tensor:
        """The same of videos (batch, frames, height, width, 3): each is sent whole."""
        check_batch(videos[:, 0], prompts)
        return self._score([[*map(picture, video)] for video in videos], prompts, references, one=False)

    def _score(
        self, shown: list[list[Image.Image | None]], prompts: Sequence[str], references: Sequence[References], one: bool
    ) -> Tensor:
        whole = {row: intact for row, each in enumerate(shown) if len(intact := [p for p in each if p]) == len(each)}
        scores, reasons = torch.full((len(shown),), torch.nan), [NOT_FINITE] * (len(shown) - len(whole))
        given = list(references) or [References()] * len(prompts)
        size, rows = self.options.batch_size, list(whole)
        batches = [
            _Batch(part, [whole[row] for row in part], [prompts[row] for row in part], [given[row] for row in part])
            for part in (rows[start : start + size] for start in range(0, len(rows), size))
        ]
        answers = self._client.ask([self._body(batch, one) for batch in batches])
        for batch, answer in zip(batches, answers, strict=True):
            for row, (number, reason) in zip(batch.rows, _of_batch(answer, len(batch.rows)), strict=True):
                scores[row] = number
                reasons += [reason] if math.isnan(number) else []
        self.failures = counted(reasons, len(shown))
        for failure in self.failures:
            LOG.warning("Scorer: %s", failure)
        return scores

    def _body(self, batch: _Batch, one: bool) -> Callable[[], dict]:
        """Makes a request's JSON; pictures are packed only when it is sent."""
        options = self.options

        def packed(shown: Image.Image) -> str:
            return data_url(shown, options.image_format, options.max_side)

        def body() -> dict:
            videos = [[*map(packed, frames)] for frames in batch.shown]
            sent = {"images": [frames[0] for frames in videos] if one else videos, "prompts": batch.prompts}
            kept = [each for each in batch.references if each.images or each.columns]
            if not kept:
                return sent
            # A group shares its item: its pictures travel once.
            different = {id(each): each for each in batch.references}
            return {
                **sent,
                "references": [
                    {
                        "images": {name: packed(reference_picture(image)) for name, image in each.images.items()},
                        "columns": dict(each.columns),
                    }
                    for each in different.values()
                ],
                "reference_of": [list(different).index(id(each)) for each in batch.references],
            }

        return body


def _scores(reply: dict) -> tuple[list, list]:
    """(scores, reasons) of a reply, not yet looked into."""
    scores, reasons = reply["scores"], reply.get("reasons") or []
    if not isinstance(scores, list) or not isinstance(reasons, list):
        raise ValueError("holds no list of scores")
    return scores, reasons


def _of_batch(answer: tuple[list, list] | NoAnswer, count: int) -> list[tuple[float, str]]:
    """(score or NaN, why there is none) of each image of a request."""
    if isinstance(answer, NoAnswer):
        return [(math.nan, str(answer))] * count
    scores, reasons = answer
    if len(scores) != count or len(reasons) not in (0, count):
        return [
            (math.nan, f"the scorer gave {len(scores)} scores and {len(reasons)} reasons for {count} images")
        ] * count
    return [(_number(score), _reason(why)) for score, why in zip(scores, reasons or [None] * count, strict=True)]


def _number(score: object) -> float:
    """A score as a finite float32; NaN for anything else, true and false too."""
    if (
        isinstance(score, bool)
        or not isinstance(score, (int, float))
        or not abs(score) < torch.finfo(torch.float32).max
    ):
        return math.nan
    return float(score)


def _reason(why: object) -> str:
    return (start_of(why) if isinstance(why, str) else "") or SILENT
