"""A vision-language model as the judge: each picture is shown to an OpenAI-compatible server with a question."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from .. import check_batch
from ..pictures import NOT_FINITE, counted, picture
from .client import ClientOptions, JudgeClient, JudgeError, Server
from .hosts import AllowedHosts, address
from .questions import PRESETS, Question

LOG = logging.getLogger("mixgrpo")
FORMATS = ("jpeg", "png")
MIN_SIDE, MAX_SIDE = 64, 4096


@dataclass(frozen=True)
class JudgeOptions:
    """What is asked of whom; ClientOptions say how."""

    # OpenAI-compatible servers (vLLM, SGLang, llama.cpp, Ollama, OpenAI), asked in turn.
    urls: tuple[str, ...]
    # The model's name, as the server knows it.
    model: str
    # What to ask and how to read the answer.
    question: Question = PRESETS["semantic"]
    # (minimum, maximum) of the judge's numbers that become 0 and 1; None leaves the numbers as they are.
    to_unit: tuple[float, float] | None = None
    # The answer's length in tokens, at most; a judge that thinks aloud needs many.
    max_tokens: int = 1024
    # For servers that sample by it; the temperature is 0 anyway.
    seed: int | None = None
    # Pixels: a larger picture is made smaller before it is sent.
    max_side: int = 1024
    # Of the pictures that are sent, one of FORMATS: jpeg (quality 95) is smaller, png exact.
    image_format: str = "jpeg"

    def __post_init__(self) -> None:
        """Raises ValueError with one sentence for a value that can't work."""
        if not self.model.strip():
            raise ValueError("The judge's model is empty: write its name as the server knows it.")
        if self.image_format not in FORMATS:
            raise ValueError(f"image_format is '{self.image_format}': it must be one of {', '.join(FORMATS)}.")
        if not MIN_SIDE <= self.max_side <= MAX_SIDE:
            raise ValueError(f"max_side is {self.max_side}: it must be from {MIN_SIDE} to {MAX_SIDE} pixels.")
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens is {self.max_tokens}: it must be at least 1.")


class JudgeReward:
    """The number in a VLM's answer to a question about the picture and its prompt (UnifiedReward: arXiv 2503.05236).

    Raw as the judge gives it (the built-in questions ask for 1 to 5), or mapped to 0..1.
    """

    name = "judge"

    def __init__(
        self,
        options: JudgeOptions,
        client: ClientOptions | None = None,
        allowed_hosts: Sequence[str] | None = None,
        key: str = "",
    ) -> None:
        """allowed_hosts: entries of AllowedHosts, None for any host. key: sent as a bearer token, only to hosts that
        the list names ("*" names none), or to all without a list.

        Raises ValueError with one sentence for a URL that can't be used, PermissionError for one that isn't allowed.
        """
        self.options = options
        self.failures: list[str] = []
        self._question = replace(options.question, scale=options.to_unit or options.question.scale)
        self._client = JudgeClient(servers(options.urls, allowed_hosts, key), client or ClientOptions())

    def score(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """float32 (batch,); NaN, with its reason in `failures`, where there was no answer or no number in it.

        Raises nothing for network trouble, ValueError for a wrong shape. Takes up to the deadline.
        """
        check_batch(images, prompts)
        shown = [picture(image) for image in images]
        asked = [(index, image) for index, image in enumerate(shown) if image is not None]
        answers = self._client.ask([self._body(image, prompts[index]) for index, image in asked])
        scores, reasons = torch.full((len(shown),), torch.nan), [NOT_FINITE] * (len(shown) - len(asked))
        for (index, _), answer in zip(asked, answers, strict=True):
            try:
                scores[index] = self._number(answer)
            except (JudgeError, ValueError) as error:
                reasons.append(str(error))
        self.failures = counted(reasons, len(shown))
        for failure in self.failures:
            LOG.warning("Judge: %s", failure)
        return scores

    def _number(self, answer: str | JudgeError) -> float:
        if isinstance(answer, JudgeError):
            raise answer
        number = self._question.read(answer)
        if self.options.to_unit is None:
            return number
        lowest, highest = self.options.to_unit
        return (number - lowest) / (highest - lowest)

    def _body(self, shown: Image.Image, prompt: str) -> Callable[[], dict]:
        """Makes a request's JSON; the picture is packed only when it is sent."""
        options = self.options

        def body() -> dict:
            content = [
                {"type": "image_url", "image_url": {"url": data_url(shown, options.image_format, options.max_side)}},
                {"type": "text", "text": self._question.ask(prompt)},
            ]
            return {
                "model": options.model,
                "messages": [{"role": "user", "content": content}],
                "temperature": 0,
                "max_tokens": options.max_tokens,
                **({} if options.seed is None else {"seed": options.seed}),
            }

        return body


def servers(urls: Sequence[str], allowed_hosts: Sequence[str] | None, key: str = "") -> list[Server]:
    """The servers of some URLs, each with the key if it may have it; see JudgeReward for what is raised."""
    if key and not (key.isascii() and key.isprintable() and " " not in key):
        raise ValueError("The judge's key holds white space or letters that no key has: set it anew.")
    if not urls:
        raise ValueError("The judge has no URL: write at least one, such as http://127.0.0.1:8000.")
    allowed = None if allowed_hosts is None else AllowedHosts(allowed_hosts)
    found = []
    for where in map(address, urls):
        if allowed is not None and not allowed.allowed(where):
            raise PermissionError(f"The judge's host {where.place} isn't on the list of allowed hosts.")
        found.append(Server(where, key if allowed is None or allowed.named(where) else ""))
    return found


def data_url(shown: Image.Image, image_format: str, max_side: int) -> str:
    """A picture as a data URL, its longer side at most max_side."""
    if max(shown.size) > max_side:
        shown = shown.copy()
        shown.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    shown.save(file, format=image_format.upper(), **({"quality": 95} if image_format == "jpeg" else {}))
    return f"data:image/{image_format};base64,{base64.b64encode(file.getvalue()).decode()}"
