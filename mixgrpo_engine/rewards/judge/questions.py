"""What a VLM judge is asked, and how its answer becomes a number."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

PROMPT, SCORE = "{prompt}", "{score}"
MAX_TEMPLATE, MAX_ANSWER = 200, 20_000  # letters
# Of bounded length, and never a part of a longer one: 45 is no 4, 1.2.3 is no 1.2.
_NUMBER = r"([-+]?(?:\d{1,12}(?:\.\d{1,12})?|\.\d{1,12}))(?!\d|\.\d)"


@dataclass(frozen=True)
class Question:
    """A question about one picture, and where its answer holds the score.

    text: what the judge is asked; {prompt} in it is replaced by the picture's prompt.
    templates: how the score stands in the answer, {score} for the number, such as "Final Score: {score}". The first
        one that is found counts, at its last place in the answer: judges that think aloud decide at the end. Case,
        white space and the stars of Markdown don't matter; everything else is taken letter by letter. A template of
        nothing but {score} wants an answer of nothing but the number. A template is no regular expression, because
        it may come with a stranger's graph, and some of those take years.
    scale: (lowest, highest) number that makes sense; None takes any.
    """

    text: str
    templates: tuple[str, ...]
    scale: tuple[float, float] | None = None

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
        text = _plain(answer.rpartition("</think>")[2])
        for template in self.templates:
            found = _find(template, text)
            if found:
                return self._checked(float(found), answer)
        raise ValueError(f"the judge's answer holds no '{self.templates[0]}': '{start_of(answer)}'")

    def _checked(self, number: float, answer: str) -> float:
        lowest, highest = self.scale or (-math.inf, math.inf)
        if not math.isfinite(number) or not lowest <= number <= highest:
            asked = f"{lowest:g} to {highest:g}" if self.scale else "any sensible number"
            raise ValueError(f"the judge's score {number:g} is outside {asked}: '{start_of(answer)}'")
        return number


def start_of(text: str, length: int = 120) -> str:
    """The beginning of a text for a message: one line, printable."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * length]).split())
    return line if len(line) <= length else line[:length].rstrip() + " ..."


def _plain(text: str) -> str:
    # Its end: the score of a long answer stands there.
    return re.sub(r"[*`]", "", text[-MAX_ANSWER:]).strip()


def _find(template: str, text: str) -> str | None:
    """The last number at {score}. Time is linear in the text: between fixed words there is only white space."""
    before, after = (_words(part) for part in _plain(template).split(SCORE))
    if not before and not after:
        match = re.fullmatch(_NUMBER + r"\.?", text)
        return match.group(1) if match else None
    pattern = r"\s*".join(part for part in (before or r"(?<![\d.])", _NUMBER, after) if part)
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


def _axis(name: str) -> Question:
    # 0 too: judges use it, though they are asked for 1 to 5.
    return Question(_AXES, (f"{name} Score (1-5): {SCORE}", f"{name} Score: {SCORE}", f"{name}: {SCORE}"), (0.0, 5.0))


PRESETS = {
    "semantic": _axis("Alignment"),
    "coherence": _axis("Coherence"),
    "style": _axis("Style"),
    "overall": Question(_OVERALL, (f"Final Score: {SCORE}", f"Overall Score: {SCORE}"), (0.0, 5.0)),
}
"""Questions of their own answer formats, by name. MixGRPO trains on "semantic" (its UnifiedReward reward)."""
