"""What the nodes of scorers at other hosts share: addresses that the owner allows, and how they are asked."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...mixgrpo_engine.rewards.pictures import FORMATS
from ...mixgrpo_engine.rewards.remote.client import ClientOptions, servers
from .. import owner_settings


class RemoteReward(io.ComfyNode):
    """A node with the widget `urls`, which are checked before anything runs."""

    WHO = "scorer"

    @classmethod
    def validate_inputs(cls, urls: str | None = None) -> bool | str:
        """Refuses a host that isn't allowed before anything runs; urls from a link are known at execution only."""
        if urls is None:
            return True
        try:
            cls.allowed(urls)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> tuple[int, int]:
        # What the owner allows may have changed since.
        return owner_settings.version()

    @classmethod
    def allowed(cls, urls: str) -> tuple[tuple[str, ...], list[str], str]:
        """(addresses, one a line; the owner's hosts; the owner's key).

        Raises ValueError with one sentence for an address that can't be used, or whose host the owner doesn't allow.
        """
        if not isinstance(urls, str):
            raise ValueError("urls must be a text with one address a line.")
        lines = tuple(line.strip() for line in urls.splitlines() if line.strip())
        hosts = owner_settings.words("judge_hosts")
        try:
            servers(cls.WHO, lines, hosts)
        except PermissionError as error:
            raise ValueError(
                f"{error} If this ComfyUI is yours, write it into {owner_settings.how_to_set('judge_hosts')}."
            ) from None
        return lines, hosts, owner_settings.text("judge_key")


def urls_input(default: str, how: str) -> io.String.Input:
    return io.String.Input(
        "urls", multiline=True, default=default,
        tooltip=f"The server, or several, one a line; they are asked in turn. {how} No name, password or key: the "
        "owner sets the key.",
    )  # fmt: skip


def network_inputs(concurrency: str, timeout: float = 60.0) -> list[io.Input]:
    """The widgets of ClientOptions. concurrency: its tooltip's first sentence."""
    return [
        io.Int.Input("concurrency", default=8, min=1, max=256, tooltip=concurrency),
        io.Float.Input(
            "timeout", default=timeout, min=0.1, max=3600.0, step=0.1, tooltip="Seconds that one request may take."
        ),
        io.Int.Input(
            "retries", default=3, min=0, max=20,
            tooltip="How often a request is repeated when the server is busy, fails or doesn't answer.",
        ),
        io.Float.Input(
            "deadline", default=300.0, min=0.1, max=86400.0, step=0.1,
            tooltip="Seconds for all pictures of a group together. Those without an answer by then get no score, and "
            "the training goes on without them.",
        ),
    ]  # fmt: skip


def packing_inputs(max_side: int = 1024, image_format: str = FORMATS[0]) -> list[io.Input]:
    return [
        io.Int.Input(
            "max_side", default=max_side, min=64, max=4096,
            tooltip="Pixels: larger pictures are made smaller before they are sent.",
        ),
        io.Combo.Input(
            "image_format", options=list(FORMATS), default=image_format,
            tooltip="How pictures are sent. jpeg and webp (quality 95) are smaller, png exact. Not every server reads "
            "webp.",
        ),
    ]  # fmt: skip


def answer_inputs() -> list[io.Input]:
    """What a language model's answer may be."""
    return [
        io.Int.Input(
            "max_tokens", default=1024, min=1, max=65536,
            tooltip="Longest answer. A judge that thinks before it answers needs thousands.",
        ),
        io.Int.Input(
            "seed", default=-1, min=-1, max=2**31 - 1, control_after_generate=False,
            tooltip="Sent with each request if it is 0 or more. The temperature is 0 in any case.",
        ),
    ]  # fmt: skip


def client_options(concurrency: int, timeout: float, retries: int, deadline: float) -> ClientOptions:
    return ClientOptions(concurrency=concurrency, timeout=timeout, retries=retries, deadline=deadline)
