"""Which servers may be asked: checks the addresses that a graph names against the hosts that their owner allows."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

ANY = "*"
PORTS = {"http": 80, "https": 443}
_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*")
_PATH = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*/?")


@dataclass(frozen=True)
class Address:
    """A server's address, every part of it checked: what is asked is what was allowed."""

    scheme: str
    host: str  # lower case, without brackets or a dot at its end
    port: int
    path: str

    @property
    def place(self) -> str:
        """host:port, as the owner's list says it."""
        return f"{_bracketed(self.host)}:{self.port}"

    @property
    def url(self) -> str:
        port = "" if self.port == PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{_bracketed(self.host)}{port}{self.path}"


def address(url: str, who: str = "judge", path: Callable[[str], str] = str) -> Address:
    """The address that is asked for a URL of http or https. path: makes the path of the one that is written.

    Raises ValueError with one sentence, which calls the server `who`, for anything else; credentials are refused, as
    they'd travel with the graph.
    """
    url = url.strip()
    wanted = "write it as http://host:port or https://host/v1"
    # Before it is split: what comes back of a split is not the same for every library.
    if "@" in url:
        raise ValueError(
            f"The {who}'s URL holds a name or password, which would travel with the workflow: leave it out, and let "
            "the server's owner set the key."
        )
    if not url.isascii() or not url.isprintable() or re.search(r"[\s\\?#%]", url):
        raise ValueError(f"The {who}'s URL '{_shown(url)}' has letters that don't belong there: {wanted}.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(f"The {who}'s URL '{_shown(url)}' can't be read: {wanted}.") from None
    if parts.scheme not in PORTS:
        raise ValueError(f"The {who}'s URL '{_shown(url)}' isn't http or https: {wanted}.")
    host = _host(parts.hostname or "")
    # The host is written back: were it another one than what was split off, it would be seen here.
    if not host or port == 0 or not _PATH.fullmatch(parts.path):
        raise ValueError(f"The {who}'s URL '{_shown(url)}' can't be read: {wanted}.")
    return Address(parts.scheme, host, port or PORTS[parts.scheme], path(parts.path))


class AllowedHosts:
    """The owner's list: "host" (at its scheme's own port), "host:port", "host:*" (any port), or "*" (any host).

    An IPv6 address stands in brackets: [::1]:8000.
    """

    def __init__(self, entries: Sequence[str]) -> None:
        """Raises ValueError with one sentence for an entry that is none of these."""
        self.any = ANY in entries
        self._places = {_entry(entry) for entry in entries if entry != ANY}

    def named(self, where: Address) -> bool:
        """Whether this very host is on the list: then it may be trusted with the key."""
        own = {""} if where.port == PORTS[where.scheme] else set()
        return any((where.host, port) in self._places for port in {str(where.port), ANY} | own)

    def allowed(self, where: Address) -> bool:
        return self.any or self.named(where)


def _entry(entry: str) -> tuple[str, str]:
    """(host, port) with "" for the scheme's own port and "*" for any."""
    text = entry.strip()
    match = re.fullmatch(r"(\[[^\]]+\]|[^:\[\]/]+)(?::(\d{1,5}|\*))?", text)
    host = _host(match.group(1).strip("[]")) if match else _host(text) if text.count(":") > 1 else ""
    port = (match and match.group(2)) or ""
    if not host or (port not in ("", ANY) and not 0 < int(port) < 65536):
        raise ValueError(
            f"The list of allowed hosts holds '{_shown(text)}': write an entry as host:port, host, host:* or "
            "[IPv6]:port, without http:// and path."
        )
    return host, port if port in ("", ANY) else str(int(port))


def _host(text: str) -> str:
    """A host as it is compared; "" for what isn't one."""
    text = text.lower()
    if ":" in text:
        try:
            return str(ipaddress.IPv6Address(text)) if "%" not in text else ""
        except ValueError:
            return ""
    name = text[:-1] if text.endswith(".") else text
    return name if _NAME.fullmatch(name) else ""


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:200])
