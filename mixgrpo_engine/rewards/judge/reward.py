"""A vision-language model as the judge: each picture is shown to an OpenAI-compatible server with a question."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .. import check_batch
from ..pictures import NOT_FINITE, counted, picture, reference_picture
from ..references import IMAGE, References
from ..remote.client import ClientOptions, NoAnswer
from .chat import Chat, ChatOptions
from .questions import PRESETS, Question

LOG = logging.getLogger("mixgrpo")


@dataclass(frozen=True)
class JudgeOptions(ChatOptions):
    """What is asked of whom."""

    # What to ask and how to read the answer.
    question: Question = PRESETS["semantic"]
    # (minimum, maximum) of the judge's numbers that become 0 and 1; None leaves the numbers as they are.
    to_unit: tuple[float, float] | None = None


class JudgeReward:
    """The number in a VLM's answer to a question about the picture and its prompt (UnifiedReward: arXiv 2503.05236).

    Raw as the judge gives it (the built-in questions ask for 1 to 5, those about edits for 0 to 10), or mapped to 0..1.
    """

    name = "judge"

    def __init__(
        self,
        options: JudgeOptions,
        client: ClientOptions | None = None,
        allowed_hosts: Sequence[str] | None = None,
        key: str = "",
    ) -> None:
        """allowed_hosts, key: as in remote.client.servers(), which says what is raised."""
        self.options = options
        self.failures: list[str] = []
        self.uses_references = options.question.source
        self.needed_references = (IMAGE,) if options.question.source else ()
        self._question = replace(options.question, scale=options.to_unit or options.question.scale)
        self._client = Chat(options, client, allowed_hosts, key)

    def score(self, images: Tensor, prompts: Sequence[str], references: Sequence[References] = ()) -> Tensor:
        """float32 (batch,); NaN, with its reason in `failures`, where there was no answer or no number in it.

        references: one an image, for a question about an edit. Raises nothing for network trouble, ValueError for a
        wrong shape. Takes up to the deadline.
        """
        check_batch(images, prompts)
        shown = [picture(image) for image in images]
        asked = [(index, image) for index, image in enumerate(shown) if image is not None]
        answers = self._client.about(
            [
                ([*sources(self._question.source, references, index), image], self._question.ask(prompts[index]))
                for index, image in asked
            ]
        )
        scores, reasons = torch.full((len(shown),), torch.nan), [NOT_FINITE] * (len(shown) - len(asked))
        for (index, _), answer in zip(asked, answers, strict=True):
            try:
                scores[index] = self._number(answer)
            except (NoAnswer, ValueError) as error:
                reasons.append(str(error))
        self.failures = told(counted(reasons, len(shown)))
        return scores

    def _number(self, answer: str | NoAnswer) -> float:
        if isinstance(answer, NoAnswer):
            raise answer
        number = self._question.read(answer)
        if self.options.to_unit is None:
            return number
        lowest, highest = self.options.to_unit
        return (number - lowest) / (highest - lowest)


def sources(wanted: bool, references: Sequence[References], index: int) -> list:
    """The picture that is shown before an image: the one it was made from, if the question is about both."""
    return [reference_picture(references[index].images[IMAGE])] if wanted else []


def told(failures: list[str]) -> list[str]:
    """The same, after it was logged."""
    for failure in failures:
        LOG.warning("Judge: %s", failure)
    return failures
