"""The text that a prompt wants to see in its picture: what stands in quotes."""

from __future__ import annotations

import re

# A single quote opens only before a word and after none, and closes only after a word and before none: the others
# are apostrophes (don't, dogs'). Shortened words that begin with one are no quotes either ('tis, rock 'n' roll, '90s).
_SHORTENED = r"(?!(?:n|em|til|tis|twas|cause|bout|round|\d0s)\b)"
_LONGEST = 300  # letters between single quotes: without an end, every apostrophe would search the whole prompt
_QUOTED = re.compile(
    # Not after a digit: 12" are inches.
    r'(?<!\d)"([^"]*)"'
    "|[\u201c\u201d\u201e]([^\u201c\u201d\u201e]*)[\u201c\u201d]"
    rf"|(?<!\w)'(?=\S){_SHORTENED}((?:[^']|'(?=\w)){{1,{_LONGEST}}})(?<=\S)'(?!\w)"
    "|(?<!\\w)[\u2018\u201a](?=\\S)"
    f"((?:[^\u2018\u2019\u201a]|\u2019(?=\\w)){{1,{_LONGEST}}})(?<=\\S)[\u2018\u2019](?!\\w)",
    re.IGNORECASE,
)


def quoted_texts(prompt: str) -> list[str]:
    """The texts in double, curly or single quotes, in their order, without empty ones."""
    texts = ["".join(part or "" for part in match.groups()).strip() for match in _QUOTED.finditer(prompt)]
    return [text for text in texts if text]
