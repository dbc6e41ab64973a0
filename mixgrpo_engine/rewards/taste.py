"""Rewards by one person's votes: asked for while a training waits, or learned and given in their name."""

from __future__ import annotations

import functools
import hashlib
import json
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..records import tensor_files
from ..taste.features import Features, sees
from ..taste.preference import ABOVE, FAR, RECENT, Preference, choices, cross_validated, fit
from ..taste.votes import Order, Sheet, State, VoteSet, scores_of
from . import check_batch, go_on, of_one_group

SHOWN = 4  # images of a sheet
LOOK_SECONDS = 0.5
MOST_MISSED = 2  # groups in a row, before a training that learns from nothing else waits without end
MOST_PENDING = 20  # sheets that wait for an answer before no more are shown


class TasteReward:
    """What the voter would choose, as far as it can be learned from the votes: log-odds, higher is better.

    It is fitted anew whenever there are new votes, in seconds on the CPU. Scores are comparable within a prompt.
    """

    name = "taste"

    def __init__(
        self,
        votes: VoteSet,
        sources: Sequence[Features],
        ask_every: int = 0,
        source: str = "",
        keep: bool = True,
    ) -> None:
        """ask_every: every so many groups the images that it is least sure of are put to the vote; 0 never.

        source: the run that shows them. keep: whether what is learned is written into the set's folder.
        """
        self.votes, self.sources, self.ask_every, self.source = votes, list(sources), ask_every, source
        self.keep = keep
        self.failures: list[str] = []
        self.remarks: list[str] = []
        """Sentences about the last call that people should know."""
        self._learned: tuple[str, Preference] | None = None
        self._first: Preference | None = None  # of held-out images, see _of_the_run()
        self._groups = 0
        self._above: deque[bool] = deque(maxlen=RECENT)  # of a training's images: whether none voted on scores so high

    def score(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """float32 (batch,). Raises ValueError with one sentence while there is no vote to learn from."""
        check_batch(images, prompts)
        self.failures.clear()
        self.remarks.clear()
        if not len(images):
            return torch.zeros(0)
        one_group = of_one_group(prompts)
        preference = self.learned() if one_group else self._of_the_run()
        features = self._features(images, prompts)
        if far := int((preference.distance(features) > FAR).sum()):
            self.remarks.append(
                f"{far} of {len(images)} images look unlike anything in the votes {self.votes.folder.name}: their "
                "scores are guesses. Vote on newer images, or mix in a general reward."
            )
        scores = preference.score(features)
        if one_group and len(images) >= 2:
            self._above.extend((scores > preference.highest).tolist())
            if len(self._above) == RECENT and sum(self._above) > ABOVE * RECENT:
                self.remarks.append(
                    f"{sum(self._above)} of the last {RECENT} images score above every image in the votes "
                    f"{self.votes.folder.name}: the training has left what you have seen, and may go where you "
                    "wouldn't. Vote on its newest images, or stop it."
                )
            self._maybe_ask(images, prompts[0], preference.least_sure(features, SHOWN))
        return scores

    def learned(self) -> Preference:
        """The model of all votes that there are now; kept in the set's folder as taste.safetensors.

        A training goes on with what it has learned when all votes are taken back.
        """
        known, digest = self._learned, _digest(self.votes.read(), self.sources)
        if known is None or (known[0] != digest and (self.can_learn() or not self.source)):
            self._learned = known = digest, self._learn()
        return known[1]

    def can_learn(self) -> bool:
        """Whether there is a vote that prefers one image to another."""
        return any(len(order) > 1 for _, order in self._voted())

    def device_bytes(self) -> int:
        """Of its sources' networks, for the estimate of memory."""
        return sum(told() for source in self.sources if (told := getattr(source, "device_bytes", None)))

    def _of_the_run(self) -> Preference:
        """What a run's held-out images are scored by from first to last: else their scores couldn't be compared."""
        if not self.source:
            return self.learned()
        if self._first is None:
            path = self.votes.folder / f"taste-{self.source}.safetensors"
            with suppress(ValueError):  # none yet, or a damaged one
                if (kept := Preference.load(path)).blocks == self._blocks():
                    self._first = kept
            if self._first is None:
                self._first = self.learned()
                path.parent.mkdir(parents=True, exist_ok=True)  # the set may have been deleted since
                self._first.save(path)
        return self._first

    def _voted(self) -> list[tuple[Sheet, Order]]:
        """The votes whose images all sources can look at."""
        return [each for each in self.votes.read().voted() if all(sees(one, each[0].prompt) for one in self.sources)]

    def _learn(self) -> Preference:
        voted = self._voted()
        if unseen := len(self.votes.read().answers) - len(voted):
            self.remarks.append(
                f"Votes on prompts that the training hasn't encoded ({unseen}) count from its next start on."
            )
        if not voted:
            raise ValueError(
                f"The votes '{self.votes.folder.name}' hold no vote yet: open the panel's tab Votes and choose a few, "
                "20 to begin with."
            )
        # Features depend on an image and its prompt.
        places = {
            place: row
            for row, place in enumerate(
                dict.fromkeys((file, sheet.prompt) for sheet, _ in voted for file in sheet.images)
            )
        }
        table = torch.cat([self._stored(source, list(places)) for source in self.sources], 1)
        chosen = choices(
            [(sheet.prompt, [places[file, sheet.prompt] for file in sheet.images], order) for sheet, order in voted]
        )
        preference = fit(table, self._blocks(), chosen)
        if not self.source:  # a training doesn't ask for it, and it takes several fits
            preference.accuracy = cross_validated(table, self._blocks(), chosen)
        if self.keep:
            preference.save(self.votes.folder / "taste.safetensors")
        return preference

    def _blocks(self) -> dict[str, int]:
        return {name: size for source in self.sources for name, size in source.blocks.items()}

    def _features(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        return torch.cat([source.of(images, prompts).float().cpu() for source in self.sources], 1)

    def _stored(self, source: Features, wanted: Sequence[tuple[str, str]]) -> Tensor:
        """Features of images in the set, (file, prompt) each: computed once and kept in its folder."""
        path = self.votes.folder / f"features-{hashlib.sha256(source.key.encode()).hexdigest()[:12]}.safetensors"
        kept = _kept(path, source)
        missing = [each for each in wanted if _name(each) not in kept]
        for each in missing:
            go_on()
            file, prompt = each
            kept[_name(each)] = source.of(self.votes.picture(file)[None], [prompt])[0].float().cpu()
        if missing:
            tensor_files.save(kept, path, {"key": source.key})
        return torch.stack([kept[_name(each)] for each in wanted])

    def _maybe_ask(self, images: Tensor, prompt: str, least_sure: Tensor) -> None:
        self._groups += 1
        if not self.ask_every or self._groups % self.ask_every or len(self.votes.read().pending) >= MOST_PENDING:
            return
        self.votes.add(images[least_sure], prompt, self.source)


class LiveReward:
    """The voter's own choice: a training shows some images of each group and waits for the answer.

    Their order becomes scores (see votes.scores_of); images that weren't shown, or not judged, have none. What was
    answered before a kill is not asked again.
    """

    name = "you"
    abstains = True

    def __init__(
        self,
        votes: VoteSet,
        shown: int = SHOWN,
        patience: float = 0.0,
        instead: TasteReward | None = None,
        source: str = "",
    ) -> None:
        """shown: images a group. patience: seconds to wait for an answer, 0 without end. instead: what scores a group
        that nobody answered, and images that can't be asked about; None leaves them out. source: the run that asks.
        """
        self.votes, self.shown, self.patience, self.instead = votes, shown, patience, instead
        self.source = source
        self.insists = True  # whether it waits without end after MOST_MISSED groups, since nothing else teaches
        self.failures: list[str] = []
        self.remarks: list[str] = []
        self._missed = 0  # groups in a row that nobody answered in time

    def score(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """float32 (batch,); NaN for images without an answer. Of a single prompt: votes compare its images."""
        check_batch(images, prompts)
        self.failures.clear()
        self.remarks.clear()
        if not len(images):
            return torch.zeros(0)
        if not of_one_group(prompts) or len(images) < 2:
            return self._otherwise(images, prompts, "Held-out images are not put to the vote.")
        places = torch.linspace(0, len(images) - 1, min(self.shown, len(images))).round().long()
        ask = functools.partial(self.votes.add, images[places], prompts[0], self.source)
        sheet = ask()
        order = self._answer(sheet.id, ask)
        if order is None:
            skipped = sheet.id in self.votes.read().skipped
            return self._otherwise(images, prompts, "You skipped it." if skipped else "Nobody answered in time.")
        scores = torch.full((len(images),), torch.nan)
        scores[places] = scores_of(order, len(places))
        return scores

    def score_videos(self, videos: Tensor, prompts: Sequence[str]) -> Tensor:
        """The same of videos, (batch, frames, height, width, 3), by the frame in their middle."""
        return self.score(videos[:, videos.shape[1] // 2], prompts)

    @property
    def leaves_out_held_out(self) -> bool:
        """Whether it has no scores for held-out images."""
        return self.instead is None

    def device_bytes(self) -> int:
        return self.instead.device_bytes() if self.instead else 0

    def _answer(self, sheet: str, ask: Callable[[], Sheet]) -> Order | None:
        """None: skipped, or not answered in time. sheet: its id; ask: adds it again."""
        started = time.monotonic()
        while True:
            state = self.votes.read()
            if sheet not in state.sheets:  # the set was deleted meanwhile
                ask()
            if not state.waits(sheet):
                self._missed = 0
                return state.answers.get(sheet)
            # A run that nobody looks at any more would learn nothing: then it waits.
            learns_otherwise = self.instead is not None and self.instead.can_learn()
            may_go_on = not self.insists or learns_otherwise or self._missed < MOST_MISSED
            if may_go_on and 0 < self.patience < time.monotonic() - started:
                self._missed += 1
                return None
            go_on()
            time.sleep(LOOK_SECONDS)

    def _otherwise(self, images: Tensor, prompts: Sequence[str], why: str) -> Tensor:
        if self.instead is not None and self.instead.can_learn():
            scores = self.instead.score(images, prompts)
            self.remarks += self.instead.remarks
            return scores
        self.failures.append(why)
        return torch.full((len(images),), torch.nan)


def _kept(path: Path, source: Features) -> dict[str, Tensor]:
    """Features that were computed before; none of a file that is damaged or of another source."""
    try:
        with safe_open(path, "pt") as file:
            if file.metadata().get("key") != source.key:
                return {}
            kept = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return {}
    size = sum(source.blocks.values())
    return kept if all(tensor.shape == (size,) for tensor in kept.values()) else {}


def _name(image: tuple[str, str]) -> str:
    file, prompt = image
    return f"{file} {hashlib.sha256(prompt.encode('utf-8', 'replace')).hexdigest()[:16]}"


def _digest(state: State, sources: Sequence[Features]) -> str:
    answers: Mapping = {name: order for name, order in sorted(state.answers.items())}
    return hashlib.sha256(json.dumps([answers, [source.key for source in sources]]).encode()).hexdigest()
