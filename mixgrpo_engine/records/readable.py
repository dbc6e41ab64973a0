"""What libraries say, as text that people, browsers and files can take: it may hold anything, and be of any length."""

from __future__ import annotations

import io
import re
import sys
import traceback

MOST = 4000
"""Characters of a message, or of a traceback."""

PART = 1000
"""Characters of one frame or exception of a traceback: a long message leaves room for the frames."""

_COLORS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_UNREADABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_LINE_ENDS = re.compile(r"\r\n?")


def readable(text: object, most: int = MOST, keep_end: bool = False) -> str:
    """Text of at most so many characters; what can't be shown (NUL, half a surrogate pair) is U+FFFD.

    Terminal colours are left out. keep_end: cut at the beginning, as a traceback is, which says what happened last.
    """
    whole = _as_text(text)
    # A little more than will be left: terminal codes take room and vanish.
    part = whole[-2 * most :] if keep_end else whole[: 2 * most]
    clean = _UNREADABLE.sub("\ufffd", _LINE_ENDS.sub("\n", _COLORS.sub("", part)))
    left_out = len(whole) - len(part) + max(0, len(clean) - most)
    if not left_out:
        return clean
    mark = f"({left_out + 60:,} characters are left out)"
    room = most - len(mark) - 5
    return f"{mark} ... {clean[-room:]}" if keep_end else f"{clean[:room]} ... {mark}"


def words_of(error: BaseException) -> str:
    """An error's message, or its type's name where it has none."""
    return readable(_as_text(error).strip()) or type(error).__name__


def traceback_of(error: BaseException) -> str:
    """As Python prints it, each part cut, the end kept."""
    try:
        parts = traceback.format_exception(type(error), error, error.__traceback__)
    except Exception:  # an error can break whatever looks at it; it is told all the same
        parts = [*traceback.format_tb(error.__traceback__), type(error).__name__]
    return readable("".join(readable(part, PART) for part in parts), keep_end=True)


def never_fail_to_print() -> None:
    """What a console can't show (ASCII, Windows' code pages) comes out as its number, not as an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _as_text(value: object) -> str:
    try:
        return str(value)
    except Exception:  # whatever a library's own error class does there
        return f"{type(value).__name__} (it can't say more)"
