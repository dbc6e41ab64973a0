"""Addresses of judges, and whether the owner's list allows them: written in every way that means the same or not."""

import pytest
from yarl import URL

from mixgrpo_engine.rewards.judge.chat import completions_path
from mixgrpo_engine.rewards.remote.hosts import AllowedHosts, address


@pytest.mark.parametrize(
    "url, asked",
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1/chat/completions"),
        (" http://127.0.0.1:8000/ ", "http://127.0.0.1:8000/v1/chat/completions"),
        ("http://localhost:8000/v1", "http://localhost:8000/v1/chat/completions"),
        ("http://localhost:8000/v1/", "http://localhost:8000/v1/chat/completions"),
        ("http://localhost/v1/chat/completions", "http://localhost/v1/chat/completions"),
        ("https://Judge.Example.COM./api/v3", "https://judge.example.com/api/v3/chat/completions"),
        ("HTTPS://judge.example.com:443", "https://judge.example.com/v1/chat/completions"),
        ("http://judge.example.com:443", "http://judge.example.com:443/v1/chat/completions"),
        ("http://[::1]:8000", "http://[::1]:8000/v1/chat/completions"),
        ("http://[0:0:0:0:0:0:0:1]", "http://[::1]/v1/chat/completions"),
        ("http://my_host-1:08000", "http://my_host-1:8000/v1/chat/completions"),
    ],
)
def test_addresses(url, asked):
    where = address(url, path=completions_path)
    assert where.url == asked
    # The library that asks understands it as the check does.
    assert (URL(where.url).host, URL(where.url).port, URL(where.url).path) == (where.host, where.port, where.path)


@pytest.mark.parametrize(
    "url",
    [
        "", "localhost:8000", "//localhost", "ftp://localhost", "file:///etc/passwd", "http://", "http:///v1",
        "http://user:secret@localhost", "http://user@localhost", "http://good.example@evil.example",
        "http://good.example\\@evil.example", "http://good.example\\.evil.example", "http://good.example#@evil.example",
        "http://localhost?key=secret", "http://localhost/v1?", "http://localhost/v1#x", "http://local host",
        "http://localhost\t.evil.example", "http://localhost\n/v1", "http://localhost:99999", "http://localhost:0",
        "http://localhost:-1", "http://localhost:8000:8001", "http://[::1", "http://[::1%25eth0]", "http://[127.0.0.1]",
        "http://-evil.example", "http://a..b", "http://.", "http://m\u00fcller.example", "http://localhost/../v1",
        "http://localhost/v1/..", "http://localhost//evil.example", "http://localhost/%2e%2e/v1",
        "http://" + "a" * 64, "http://" + "a." * 150 + "b", "javascript:alert(1)", "data:text/plain,x",
    ],
)  # fmt: skip
def test_what_is_no_judges_address(url):
    with pytest.raises(ValueError, match="^(The|A) judge's URL") as error:
        address(url)
    assert "secret" not in str(error.value) or "?" in url


@pytest.mark.parametrize(
    "entry, url, allowed",
    [
        ("127.0.0.1:8000", "http://127.0.0.1:8000", True),
        ("127.0.0.1:8000", "http://127.0.0.1:8001", False),
        ("127.0.0.1:8000", "http://localhost:8000", False),  # names are compared, not looked up
        ("127.0.0.1:8000", "http://2130706433:8000", False),
        ("127.0.0.1:8000", "http://127.1:8000", False),
        ("127.0.0.1:8000", "http://127.0.0.1.:8000", True),
        ("Judge.Example.com.", "https://judge.example.com/v1", True),
        ("judge.example.com", "http://judge.example.com", True),
        ("judge.example.com", "https://judge.example.com:443", True),
        ("judge.example.com", "http://judge.example.com:443", False),  # a host alone: its scheme's own port
        ("judge.example.com", "http://judge.example.com:8000", False),
        ("judge.example.com:443", "https://judge.example.com", True),
        ("judge.example.com:80", "https://judge.example.com", False),
        ("judge.example.com:*", "http://judge.example.com:8000", True),
        ("judge.example.com", "https://judge.example.com.evil.example", False),
        ("judge.example.com", "https://evil-judge.example.com", False),
        ("example.com", "https://judge.example.com", False),
        ("[::1]:8000", "http://[0:0::1]:8000", True),
        ("[::1]", "http://[::1]", True),
        ("::1", "http://[::1]", True),
        ("[::1]:8000", "http://[::1]:8001", False),
        ("[::1]:8000", "http://[::ffff:127.0.0.1]:8000", False),
        ("*", "http://anything.example:1", True),
    ],
)
def test_the_list(entry, url, allowed):
    hosts = AllowedHosts(["other.example", entry])
    assert hosts.allowed(address(url)) == allowed
    assert hosts.named(address(url)) == (allowed and entry != "*")


def test_an_empty_list_allows_nothing():
    assert not AllowedHosts([]).allowed(address("http://127.0.0.1"))


@pytest.mark.parametrize(
    "entry", ["http://localhost", "localhost/v1", "*.example.com", "localhost:", "localhost:0", "localhost:99999", "",
              "a b", "[localhost]:8000:1", "user@localhost", "*:8000"],
)  # fmt: skip
def test_a_bad_entry_is_one_sentence(entry):
    with pytest.raises(ValueError, match="list of allowed hosts holds .*write an entry as"):
        AllowedHosts([entry])
