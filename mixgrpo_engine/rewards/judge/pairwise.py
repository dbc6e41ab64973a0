"""A judge that compares: how often an image wins against the other images of its group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import check_batch
from ..pictures import NOT_FINITE, counted, picture
from ..references import IMAGE, References
from ..remote.client import ClientOptions, NoAnswer
from .chat import Chat, ChatOptions
from .pair_questions import PAIR_PRESETS, PairQuestion
from .reward import sources, told

ALONE = "there is no other image to compare it with"
UNANSWERED = "no comparison with it was answered"
SEVERAL = "images of several prompts or sources aren't compared: only those of one are"


@dataclass(frozen=True)
class PairwiseOptions(ChatOptions):
    """What is asked of whom."""

    # What to ask about two pictures.
    question: PairQuestion = PAIR_PRESETS["better"]
    # Requests a group, at most; 0 compares every image with every other one. Each comparison takes two.
    calls: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.calls < 0:
            raise ValueError(f"calls is {self.calls}: it must be at least 0, which compares all with all.")


class PairwiseJudgeReward:
    """An image's win rate inside its group, 0 to 1: what a VLM prefers, two pictures at a time.

    Source: Pref-GRPO (arXiv 2508.20751). Scores of single pictures lie close together, and a training that stretches
    such differences learns the judge's noise; a comparison can't drift in scale. Each two are shown in both orders and
    the mean counts, so that a judge that likes the first place gains nobody anything.
    """

    name = "pairwise_judge"
    compares_group = True

    def __init__(
        self,
        options: PairwiseOptions,
        client: ClientOptions | None = None,
        allowed_hosts: Sequence[str] | None = None,
        key: str = "",
    ) -> None:
        """allowed_hosts, key: as in remote.client.servers(), which says what is raised."""
        self.options = options
        self.failures: list[str] = []
        self.remarks: list[str] = []
        self.uses_references = options.question.source
        self.needed_references = (IMAGE,) if options.question.source else ()
        self._client = Chat(options, client, allowed_hosts, key)

    def score(self, images: Tensor, prompts: Sequence[str], references: Sequence[References] = ()) -> Tensor:
        """images: one group. float32 (batch,); NaN, with its reason in `failures`, for an image without a comparison.

        references: one an image, for a question about an edit. Raises nothing for network trouble, ValueError for a
        wrong shape, and when options.calls isn't enough to compare each image once.
        """
        check_batch(images, prompts)
        self.remarks = []
        shown = [picture(image) for image in images]
        known = [row for row, each in enumerate(shown) if each is not None]
        scores, reasons = torch.full((len(shown),), torch.nan), [NOT_FINITE] * (len(shown) - len(known))
        if len(set(prompts)) > 1 or (self.options.question.source and not _one_source(references)):
            reasons += [SEVERAL] * len(known)
        elif len(known) < 2:
            reasons += [ALONE] * len(known)
        else:
            won, refused = self._compare([shown[row] for row in known], prompts[0], references)
            scores[known] = won
            reasons += refused
        self.failures = told(counted(reasons, len(shown)))
        return scores

    def _compare(self, shown: Sequence, prompt: str, references: Sequence[References]) -> tuple[Tensor, list[str]]:
        """(win rates (images,), why some have none)."""
        question, pairs = self.options.question, pairings(len(shown), self.options.calls)
        before, text = sources(question.source, references, 0), question.ask(prompt)
        orders = [order for one, other in pairs for order in ((one, other), (other, one))]
        answers = self._client.about([([*before, shown[left], shown[right]], text) for left, right in orders])
        won: list[list[float]] = [[] for _ in shown]
        refused, by_place = [], 0
        for number, (one, other) in enumerate(pairs):
            try:
                first, second = (self._preference(answer) for answer in answers[2 * number : 2 * number + 2])
            except (NoAnswer, ValueError) as error:
                # One order alone would count the place.
                refused.append(str(error))
                continue
            by_place += (first - 0.5) * (second - 0.5) > 0
            won[one].append((first + 1 - second) / 2)
            won[other].append((second + 1 - first) / 2)
        if 2 * by_place > len(pairs):
            self.remarks.append(
                f"The judge chose by the place in {by_place} of {len(pairs)} comparisons, whichever image stood there: "
                "they say nothing. Ask another question or a stronger judge."
            )
        if refused:
            self.remarks.append(f"{len(refused)} of {len(pairs)} comparisons had no answer: {refused[0]}.")
        rates = torch.tensor([sum(each) / len(each) if each else torch.nan for each in won])
        lost = int(rates.isnan().sum())
        return rates, [f"{UNANSWERED}: {refused[0]}"] * lost if lost else []

    def _preference(self, answer: str | NoAnswer) -> float:
        if isinstance(answer, NoAnswer):
            raise answer
        return self.options.question.read(answer)


def _one_source(references: Sequence[References]) -> bool:
    shown = [each.images[IMAGE] for each in references]
    return all(each is shown[0] or torch.equal(each, shown[0]) for each in shown)


def pairings(count: int, calls: int = 0) -> list[tuple[int, int]]:
    """Which of `count` images are compared, each two once: all, or as many whole rounds as `calls` allow.

    A round compares each image with one other (the circle method of round-robin tournaments); with an odd count one
    sits out, another one each round. Two calls a pair. Raises ValueError when an image would never be compared.
    """
    seats = [*range(count), *([-1] if count % 2 else [])]  # -1 sits nobody at
    rounds, size = len(seats) - 1, 2 * (count // 2)
    if calls:
        if calls < (least := size * (1 + count % 2)):
            raise ValueError(
                f"calls is {calls}: to compare each of {count} images once, in both orders, takes {least}; raise "
                "it, or set 0 to compare all with all."
            )
        rounds = min(rounds, calls // size)
    pairs = []
    for _ in range(rounds):
        half = len(seats) // 2
        table = zip(seats[:half], reversed(seats[half:]), strict=True)
        pairs += [(min(two), max(two)) for two in table if min(two) >= 0]
        seats = [seats[0], seats[-1], *seats[1:-1]]
    return pairs
