"""Whatever a library says, what is told of it can be read, kept and sent."""

import io
import json
import logging
import sys

import pytest

from mixgrpo_engine.records.events import Failed, Notice, Stage
from mixgrpo_engine.records.readable import MOST, never_fail_to_print, readable, traceback_of, words_of


@pytest.mark.parametrize(
    "said, told",
    [
        ("plain\n\ttext \u00e9\U0001f600", "plain\n\ttext \u00e9\U0001f600"),
        ("a\0b\x07", "a\ufffdb\ufffd"),
        ("half \ud83d of a pair", "half \ufffd of a pair"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("one\r\ntwo\rthree", "one\ntwo\nthree"),
        (None, "None"),
    ],
)
def test_what_cannot_be_shown_is_replaced(said, told):
    assert readable(said) == told
    told.encode()


def test_long_text_is_cut_where_it_matters_least():
    text = "begin " + "x" * 5_000_000 + " end"
    first, last = readable(text), readable(text, keep_end=True)
    assert max(len(first), len(last)) <= MOST
    assert first.startswith("begin ") and "characters are left out" in first
    assert last.endswith(" end") and "characters are left out" in last
    assert readable("x" * MOST) == "x" * MOST


class Silent(Exception):
    def __str__(self):
        raise RuntimeError("It doesn't say.")


def raised(error):
    try:
        raise error
    except BaseException as caught:
        return caught


def test_an_error_without_words_has_its_name():
    assert words_of(ValueError()) == "ValueError" and words_of(ValueError("  ")) == "ValueError"
    assert words_of(raised(Silent())).startswith("Silent")
    assert "raised" in traceback_of(raised(Silent()))


def test_a_long_message_leaves_room_for_the_frames():
    told = traceback_of(raised(ValueError("x" * 3_000_000)))
    assert len(told) <= MOST and "in raised" in told and "ValueError: xxx" in told


@pytest.mark.parametrize("event", [Failed, lambda text: Notice(3, text), lambda text: Stage("load", text)])
def test_every_event_is_readable(event):
    told = event("a\0b\ud800" + "x" * 10**6).as_dict()
    text = told["message"]
    assert text.startswith("a\ufffdb\ufffd") and len(text) <= MOST
    json.dumps(told).encode()


def test_a_failures_traceback_keeps_its_end():
    told = Failed("m", "first\n" + "x" * 10_000 + "\nlast\0").as_dict()
    assert told["traceback"].endswith("\nlast\ufffd") and len(told["traceback"]) <= MOST


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_no_console_fails_over_what_it_cannot_show(monkeypatch, encoding):
    """As ComfyUI wraps its streams: errors are strict, and its log would say that it failed instead of what it had."""
    written, handler = io.BytesIO(), logging.StreamHandler()
    stream = io.TextIOWrapper(written, encoding=encoding, write_through=True)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(sys, "stdout", None)  # as under pythonw
    handler.setStream(stream)
    never_fail_to_print()
    handler.handle(logging.LogRecord("x", logging.INFO, "", 0, "run %s", ("\u00fcber \u732b \ud800",), None))
    text = written.getvalue().decode(encoding)
    assert text.startswith("run ") and "Logging error" not in text and "\\ud800" in text
    assert ("\u732b" in text) is (encoding == "utf-8")
