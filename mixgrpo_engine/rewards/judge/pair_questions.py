"""What a VLM judge is asked about two pictures, and how its answer becomes a preference."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from ..remote.client import start_of
from .questions import NUMBER, PROMPT, plain

_VERDICT = re.compile(
    r"image\s*(?P<first>[12])\s+is\s+(?:(?:clearly|slightly|much|far)\s+)?better"
    r'|"winner"\s*:\s*"image\s*(?P<winner>[12])"|equally\s+good',
    re.IGNORECASE,
)
AXES = ("Alignment", "Coherence", "Style")


def verdict(answer: str) -> float:
    """1 for "Image 1 is better", 0 for "Image 2 is better", 1/2 for "equally good"; or "winner": "Image 1" in JSON.

    The last one counts: judges that think aloud decide at the end. Raises ValueError when there is none.
    """
    found = list(_VERDICT.finditer(plain(answer)))
    if not found:
        raise ValueError(f"the judge's answer doesn't say which image is better: '{start_of(answer)}'")
    better = found[-1]["first"] or found[-1]["winner"]
    return 0.5 if better is None else float(better == "1")


def shares(*axes: str) -> Callable[[str], float]:
    """Reads UnifiedReward 2's two numbers an axis ("Alignment Score: Image 1: 0.4 Image 2: 0.6"): the first one's share
    of their sum, the mean over the axes.
    """

    def read(answer: str) -> float:
        text = plain(answer)
        return sum(_share(axis, text, answer) for axis in axes) / len(axes)

    return read


def _share(axis: str, text: str, answer: str) -> float:
    pattern = rf"{axis}\s*Score\s*:\s*Image\s*1\s*:\s*{NUMBER}\s*Image\s*2\s*:\s*{NUMBER}"
    found = re.findall(pattern, text, re.IGNORECASE)
    first, second = map(float, found[-1]) if found else (0.0, 0.0)
    if min(first, second) < 0 or first + second <= 0:
        raise ValueError(f"the judge's answer holds no two scores for {axis}: '{start_of(answer)}'")
    return first / (first + second)


@dataclass(frozen=True)
class PairQuestion:
    """A question about two pictures of one prompt.

    text: what the judge is asked; {prompt} in it is replaced by the prompt.
    read: an answer -> how far the first one is preferred: 1 wins, 0 loses, 1/2 is a tie. Raises ValueError, saying why.
    source: the picture that both were made from is shown before them.
    """

    text: str
    read: Callable[[str], float] = verdict
    source: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError with one sentence for a question that can't work."""
        if not self.text.strip():
            raise ValueError("The judge's question is empty: write what to ask about two pictures.")

    def ask(self, prompt: str) -> str:
        return self.text.replace(PROMPT, prompt)


# The words to answer in are those that UnifiedReward (arXiv 2503.05236), UnifiedReward-Think (arXiv 2505.03318) and
# UnifiedReward 2 were trained on; the ways to ask for them are our own.
_BETTER = (
    "You see two pictures that were generated from one caption. Compare them by two criteria: which one shows better "
    "what the caption says (objects, attributes, counts, relations), and which one has the better quality (clarity, "
    "detail, colours, beauty). End with one of these sentences: 'Image 1 is better.', 'Image 2 is better.' or 'Both "
    "images are equally good.'\n"
    "\n"
    "Text Caption: [{prompt}]"
)
_THINK = (
    "You see two pictures that were generated from one caption: 「{prompt}」. Compare them dimension by dimension: "
    "Semantic consistency (with the caption), Aesthetics (composition, colour, expression), Authenticity (realism and "
    "detail), and up to two more that matter here. Write for each dimension, inside <think> and </think>:\n"
    "Dimension name:\n"
    "    Image 1 (x/10) - why;\n"
    "    Image 2 (y/10) - why\n"
    "and below them, still inside:\n"
    "Total score:\n"
    "Image 1: x+x+x=total\n"
    "Image 2: y+y+y=total\n"
    "After </think> write nothing but <answer>Image 1 is better</answer> or <answer>Image 2 is better</answer>."
)
_SHARES = (
    "You see two pictures, Image 1 and Image 2, that were generated from one caption. Compare them on three axes. On "
    "each, divide one point between them: two numbers from 0 to 1 that sum to 1, the higher one for the better "
    "picture.\n"
    "- Alignment: which shows better what the caption says?\n"
    "- Coherence: which makes more sense in itself, without distorted, broken or impossible parts?\n"
    "- Style: which is better to look at, whatever the caption says?\n"
    "Answer with exactly these lines:\n"
    "Alignment Score:\n Image 1: X\n Image 2: Y\n\n"
    "Coherence Score:\n Image 1: X\n Image 2: Y\n\n"
    "Style Score:\n Image 1: X\n Image 2: Y\n"
    "\n"
    "Text Caption: [{prompt}]"
)
_EDIT = (
    "You see a source picture and two edits of it, Image 1 and Image 2, in this order, both made by one instruction. "
    "Which edit is better? First: was everything done that the instruction asks for, and is everything else as it was "
    "in the source? Second: does it look right in itself: natural light, no seams, blur or broken parts, a pleasing "
    "whole? End with one of these sentences: 'Image 1 is better.', 'Image 2 is better.' or 'Both images are equally "
    "good.'\n"
    "\n"
    "Text instruction - {prompt}"
)

PAIR_PRESETS = {
    "better": PairQuestion(_BETTER),
    "think": PairQuestion(_THINK),
    "semantic": PairQuestion(_SHARES, shares("Alignment")),
    "coherence": PairQuestion(_SHARES, shares("Coherence")),
    "style": PairQuestion(_SHARES, shares("Style")),
    "overall": PairQuestion(_SHARES, shares(*AXES)),
    "edit": PairQuestion(_EDIT, source=True),
}
"""By name: "better" is UnifiedReward's first format, "think" that of UnifiedReward-Think, with which Pref-GRPO trains;
"semantic" to "overall" are UnifiedReward 2's, "edit" is UnifiedReward-Edit's.
"""
