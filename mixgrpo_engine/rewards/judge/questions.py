"""What a VLM judge is asked about one picture, and how its answer becomes a number."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from ..remote.client import start_of

PROMPT, SCORE = "{prompt}", "{score}"
MAX_TEMPLATE, MAX_ANSWER = 200, 20_000  # letters
# Of bounded length, and never a part of a longer one: 45 is no 4, 1.2.3 is no 1.2.
# UnifiedReward 2 writes 2.694700002670288.
NUMBER = r"([-+]?(?:\d{1,12}(?:\.\d{1,20})?|\.\d{1,20}))(?!\d|\.\d)"


@dataclass(frozen=True)
class Question:
    """A question about one picture, and where its answer holds the score.

    text: what the judge is asked; {prompt} in it is replaced by the picture's prompt.
    templates: how the score stands in the answer, {score} for the number, such as "Final Score: {score}". The first
        one that is found counts, at its last place in the answer: judges that think aloud decide at the end. Case,
        white space and the stars of Markdown don't matter; everything else is taken letter by letter. A template of
        nothing but {score} wants an answer of nothing but the number. A template is no regular expression, because
        it may come with a stranger's graph, and some of those take years.
    scale: (lowest, highest) score that makes sense; None takes any.
    source: the picture that this one was made from is shown first.
    parts: in the place of templates, several numbers of the same answer, none below 0. The score is their geometric
        mean, so that none can make up for another: an edit that does nothing keeps the picture perfectly (VIEScore,
        arXiv 2312.14867).
    """

    text: str
    templates: tuple[str, ...]
    scale: tuple[float, float] | None = None
    source: bool = False
    parts: tuple[Question, ...] = ()

    def __post_init__(self) -> None:
        """Raises ValueError with one sentence for a question that can't work."""
        if not self.text.strip():
            raise ValueError("The judge's question is empty: write what to ask about a picture.")
        for template in self.templates:
            if template.count(SCORE) != 1 or len(template) > MAX_TEMPLATE:
                raise ValueError(
                    f"The score template '{template[:MAX_TEMPLATE]}' must hold {SCORE} once, where the number stands "
                    f"in the answer, in at most {MAX_TEMPLATE} letters: for example 'Score: {SCORE}'."
                )
        if self.scale and not -math.inf < self.scale[0] < self.scale[1] < math.inf:
            raise ValueError(f"The judge's scale is {self.scale}: the minimum must be below the maximum.")

    def ask(self, prompt: str) -> str:
        """The question about a picture of this prompt."""
        return self.text.replace(PROMPT, prompt)

    def read(self, answer: str) -> float:
        """The score in an answer. Raises ValueError, saying why, when it holds none."""
        number = self._mean(answer) if self.parts else self._own(answer)
        lowest, highest = self.scale or (-math.inf, math.inf)
        if not math.isfinite(number) or not lowest <= number <= highest:
            asked = f"{lowest:g} to {highest:g}" if self.scale else "any sensible number"
            raise ValueError(f"the judge's score {number:g} is outside {asked}: '{start_of(answer)}'")
        return number

    def _mean(self, answer: str) -> float:
        numbers = [max(0.0, part.read(answer)) for part in self.parts]
        # Three times 4 has a mean of 3.9999999999999996, which no scale from 4 should refuse.
        return round(math.prod(numbers) ** (1 / len(numbers)), 9)

    def _own(self, answer: str) -> float:
        text = plain(answer)
        for template in self.templates:
            found = _find(template, text)
            if found:
                return float(found)
        raise ValueError(f"the judge's answer holds no '{self.templates[0]}': '{start_of(answer)}'")


def plain(answer: str) -> str:
    """What counts of an answer: after the thinking, without the marks of Markdown; nothing of one that ends in it."""
    said = answer.rpartition("</think>")[2]
    return "" if "<think>" in said else _unmarked(said)


def _unmarked(text: str) -> str:
    # Its end: the score of a long answer stands there.
    return re.sub(r"[*`]", "", text[-MAX_ANSWER:]).strip()


def _find(template: str, text: str) -> str | None:
    """The last number at {score}. Time is linear in the text: between fixed words there is only white space."""
    before, after = (_words(part) for part in _unmarked(template).split(SCORE))
    if not before and not after:
        match = re.fullmatch(NUMBER + r"\.?", text)
        return match.group(1) if match else None
    pattern = r"\s*".join(part for part in (before or r"(?<![\d.])", NUMBER, after) if part)
    matches = re.findall(pattern, text, re.IGNORECASE)
    return matches[-1] if matches else None


def _words(part: str) -> str:
    return r"\s*".join(map(re.escape, re.findall(r"\w+|[^\w\s]", part)))


# UnifiedReward (arXiv 2503.05236) was trained to answer in these words; the ways to ask for them are our own.
_AXES = (
    "This picture was generated from a caption. Judge it on three axes, each with a number from 1 (worst) to 5 (best), "
    "decimals allowed:\n"
    "- Alignment: does it show what the caption says, with the right objects, attributes, counts and relations?\n"
    "- Coherence: does it make sense in itself, without distorted, broken or impossible parts?\n"
    "- Style: is it good to look at, whatever the caption says?\n"
    "Answer with exactly these three lines:\n"
    "Alignment Score (1-5): X\n"
    "Coherence Score (1-5): Y\n"
    "Style Score (1-5): Z\n"
    "\n"
    "Text Caption: [{prompt}]"
)
_OVERALL = (
    "This picture was generated from a caption. Judge it by two criteria together: how well it shows what the caption "
    "says (objects, attributes, relations), and how good its quality is (clarity, detail, colours, beauty).\n"
    "List the caption's elements, one a line, as 'element (type): value' with value 1 if the picture shows it and 0 if "
    "not. Then end with a number from 1 (worst) to 5 (best), decimals allowed, in a line of its own:\n"
    "Final Score: X\n"
    "\n"
    "Text Caption: [{prompt}]"
)


_EDIT = (
    "The first picture is the original. The second one is what an editing model made of it by an instruction. Judge "
    "the edit on three axes, each with a number from 0 (worst) to 10 (best), decimals allowed:\n"
    "- Instruction: was everything done that the instruction asks for, in the right place and in the right way? 0 if "
    "nothing of it was.\n"
    "- Preservation: is everything else as it was: people and their faces, objects, background, style, framing? 10 if "
    "nothing else has changed.\n"
    "- Quality: does the second picture look right in itself: natural light and shadows, no seams, blur or broken "
    "parts?\n"
    "Answer with exactly these three lines:\n"
    "Instruction Score (0-10): X\n"
    "Preservation Score (0-10): Y\n"
    "Quality Score (0-10): Z\n"
    "\n"
    "Instruction: [{prompt}]"
)


def _axis(name: str, text: str = _AXES, asked: str = "1-5", highest: float = 5.0, **more: Any) -> Question:
    templates = (f"{name} Score ({asked}): {SCORE}", f"{name} Score: {SCORE}", f"{name}: {SCORE}")
    # 0 too: judges use it, though they are asked for 1 to 5.
    return Question(text, templates, (0.0, highest), **more)


_EDIT_AXES = {
    name: _axis(name, _EDIT, "0-10", 10.0, source=True) for name in ("Instruction", "Preservation", "Quality")
}

PRESETS = {
    "semantic": _axis("Alignment"),
    "coherence": _axis("Coherence"),
    "style": _axis("Style"),
    "overall": Question(_OVERALL, (f"Final Score: {SCORE}", f"Overall Score: {SCORE}"), (0.0, 5.0)),
    "edit": Question(_EDIT, (), (0.0, 10.0), source=True, parts=tuple(_EDIT_AXES.values())),
    **{f"edit {name.lower()}": question for name, question in _EDIT_AXES.items()},
}
"""Questions of their own answer formats, by name. MixGRPO trains on "semantic" (its UnifiedReward reward).

UnifiedReward 2 answers the first three, too.
"""
