"""Questions about pictures to a vision-language model behind an OpenAI-compatible server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image

from ..pictures import check_packing, data_url
from ..remote.client import Client, ClientOptions, NoAnswer, servers

COMPLETIONS = "/chat/completions"


@dataclass(frozen=True)
class ChatOptions:
    """Who is asked, and what is sent beside the question; ClientOptions say how."""

    # OpenAI-compatible servers (vLLM, SGLang, llama.cpp, Ollama, OpenAI), asked in turn.
    urls: tuple[str, ...]
    # The model's name, as the server knows it.
    model: str
    # The answer's length in tokens, at most; a judge that thinks aloud needs many.
    max_tokens: int = 1024
    # For servers that sample by it; the temperature is 0 anyway.
    seed: int | None = None
    # Pixels: a larger picture is made smaller before it is sent.
    max_side: int = 1024
    # Of the pictures that are sent: jpeg and webp (quality 95) are smaller, png exact. Not every server reads webp.
    image_format: str = "jpeg"

    def __post_init__(self) -> None:
        """Raises ValueError with one sentence for a value that can't work."""
        if not self.model.strip():
            raise ValueError("The judge's model is empty: write its name as the server knows it.")
        check_packing(self.image_format, self.max_side)
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens is {self.max_tokens}: it must be at least 1.")


class Chat(Client[str]):
    """Asks a judge, and gives its answers as texts."""

    def __init__(
        self, chat: ChatOptions, client: ClientOptions | None, allowed_hosts: Sequence[str] | None, key: str
    ) -> None:
        """allowed_hosts, key: as in client.servers(), which says what is raised."""
        found = servers("judge", chat.urls, allowed_hosts, key, completions_path)
        super().__init__("judge", found, client or ClientOptions(), _content)
        self.chat = chat

    def about(self, questions: Sequence[tuple[Sequence[Image.Image], str]]) -> list[str | NoAnswer]:
        """The answers to (pictures, text) each: see Client.ask(). The pictures are packed only when they are sent."""
        return self.ask([self._body(pictures, text) for pictures, text in questions])

    def _body(self, pictures: Sequence[Image.Image], text: str) -> Callable[[], dict]:
        chat = self.chat

        def body() -> dict:
            urls = [data_url(each, chat.image_format, chat.max_side) for each in pictures]
            shown = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
            return {
                "model": chat.model,
                "messages": [{"role": "user", "content": [*shown, {"type": "text", "text": text}]}],
                "temperature": 0,
                "max_tokens": chat.max_tokens,
                **({} if chat.seed is None else {"seed": chat.seed}),
            }

        return body


def completions_path(path: str) -> str:
    """The path of chat completions for http://host:8000, .../v1 or .../v1/chat/completions."""
    path = path.rstrip("/")
    return path if path.endswith(COMPLETIONS) else (path or "/v1") + COMPLETIONS


def _content(reply: dict) -> str:
    """The text of a chat completion that came to its end: the last score counts, and may be missing or cut in two."""
    choice = reply["choices"][0]
    if choice.get("finish_reason") == "length":
        raise ValueError("was cut off at max_tokens, which must be higher")
    content = choice["message"]["content"]
    if not isinstance(content, str) or not content.strip():
        raise ValueError("holds no answer")
    return content
