"""A set of votes on disk: images that were shown side by side, and what was chosen among them.

A folder holds `images/*.webp` and `votes.jsonl`, to which lines are only ever added: a sheet (a prompt and the images
that are shown together), an answer, or the word that the last answer is taken back. A vote stays what it was, a choice
among shown images; numbers are made of it elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from filelock import FileLock
from PIL import Image
from torch import Tensor

from ..records.files import patiently, written_beside

SIDE, QUALITY = 1024, 95  # pixels of the longer side of a kept image, and of its webp
MOST_SHOWN = 16  # images of a sheet

Order = tuple[tuple[int, ...], ...]
"""An answer: places of a sheet's images in tiers, the best tier first; those of one tier are equally good.

A place in no tier wasn't judged. Best and worst of four: ((2,), (0, 3), (1,))."""


@dataclass(frozen=True)
class Sheet:
    """Images of one prompt that are shown together."""

    id: str
    prompt: str
    images: tuple[str, ...]  # file names in `images`
    source: str = ""  # the run that made them, if one did
    time: float = 0.0


@dataclass
class State:
    """All of a set, as its lines say."""

    sheets: dict[str, Sheet] = field(default_factory=dict)
    answers: dict[str, Order] = field(default_factory=dict)  # sheet's id -> what was chosen
    skipped: set[str] = field(default_factory=set)
    last: list[str] = field(default_factory=list)  # sheets in the order of their answers, skipped ones too
    damaged: int = 0  # lines that couldn't be read

    @property
    def pending(self) -> list[Sheet]:
        """Sheets without an answer, the oldest first."""
        return [sheet for sheet in self.sheets.values() if self.waits(sheet.id)]

    def waits(self, sheet: str) -> bool:
        """Whether it has no answer."""
        return sheet not in self.answers and sheet not in self.skipped

    def voted(self) -> Iterator[tuple[Sheet, Order]]:
        """Sheets that say something, with their answers."""
        for name, order in self.answers.items():
            yield self.sheets[name], order


class VoteSet:
    """Reads and extends a set. Several processes may do so at once: a training adds sheets, a server votes."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log, self.images = folder, folder / "votes.jsonl", folder / "images"
        self._read = State()
        self._offset = 0

    def add(self, images: Tensor, prompt: str, source: str = "") -> Sheet:
        """Images (2 to 16, height, width, 3), float in 0..1, as a new sheet, or the one that they already are.

        source: the run that asks. What an earlier run has asked in vain is this one's question from now on.
        Raises ValueError for another number of images.
        """
        if not 2 <= len(images) <= MOST_SHOWN:
            raise ValueError(f"{len(images)} images to vote on: it must be 2 to {MOST_SHOWN}.")
        pixels = images.detach().float().cpu().nan_to_num(0.0).clamp(0, 1).mul(255).round().to(torch.uint8)
        name = sheet_id(pixels, prompt)
        sheet = self.read().sheets.get(name)
        if sheet and (source in ("", sheet.source) or not self._read.waits(name)):
            return sheet
        self.images.mkdir(parents=True, exist_ok=True)
        files = tuple(self._keep(image) for image in pixels)
        self._write({"type": "sheet", "id": name, "prompt": prompt, "images": files, "source": source})
        return self.read().sheets[name]

    def vote(self, sheet: str, order: Sequence[Sequence[int]]) -> None:
        """Raises ValueError with one sentence for a sheet that isn't there, or an order that doesn't fit it."""
        tiers = checked_order(order, len(self._sheet(sheet).images))
        self._write({"type": "vote", "sheet": sheet, "order": tiers})

    def skip(self, sheet: str) -> None:
        """Raises ValueError for a sheet that isn't there."""
        self._sheet(sheet)
        self._write({"type": "skip", "sheet": sheet})

    def undo(self) -> str:
        """Takes the last answer back; its sheet's id, which is asked again. Raises ValueError when there is none."""
        if not self.read().last:
            raise ValueError("There is no vote to take back.")
        name = self._read.last[-1]
        self._write({"type": "undo", "sheet": name})
        return name

    def read(self) -> State:
        """The set as it is now; only what was added since the last call is read."""
        try:
            size = self.log.stat().st_size
        except FileNotFoundError:
            size = 0
        if size < self._offset:  # another log under the same name
            self._read, self._offset = State(), 0
        if size > self._offset:
            with open(self.log, "rb") as file:
                file.seek(self._offset)
                added = file.read()
            whole = added[: added.rfind(b"\n") + 1]
            self._offset += len(whole)
            for line in whole.splitlines():
                _take(self._read, line)
        return self._read

    def picture(self, file: str) -> Tensor:
        """One of its images: float32 (height, width, 3) in 0..1. Raises ValueError for a name that is none of them."""
        path = self.images / file
        if path.name != file or path.suffix != ".webp" or not path.is_file():
            raise ValueError(f"There is no image '{file[:80]}' in the votes {self.folder.name}.")
        with Image.open(path) as picture:
            values = torch.frombuffer(bytearray(picture.convert("RGB").tobytes()), dtype=torch.uint8)
            return values.view(picture.height, picture.width, 3).float() / 255

    def _sheet(self, name: str) -> Sheet:
        if sheet := self.read().sheets.get(name):
            return sheet
        raise ValueError(f"The votes {self.folder.name} have no sheet '{str(name)[:80]}'.")

    def _keep(self, image: Tensor) -> str:
        """image: uint8 (height, width, 3). The same pixels are one file."""
        file = f"{_digest(image)}.webp"
        if not (self.images / file).exists():
            with written_beside(self.images / file) as temporary:
                picture = Image.fromarray(image.numpy())
                picture.thumbnail((SIDE, SIDE))
                picture.save(temporary, format="webp", quality=QUALITY)
        return file

    def _write(self, told: dict) -> None:
        line = json.dumps({**told, "time": round(time.time(), 3)}).encode() + b"\n"

        def append() -> None:
            with FileLock(self.folder / ".lock"), open(self.log, "ab") as file:
                if file.tell() and not _ends_with_newline(self.log):
                    file.write(b"\n")  # somebody was killed in the middle of a line
                file.write(line)
                file.flush()
                os.fsync(file.fileno())

        self.folder.mkdir(parents=True, exist_ok=True)
        patiently(append)
        self.read()


def sheet_id(pixels: Tensor, prompt: str) -> str:
    """The same for the same images (uint8) and prompt: a resumed training asks again what it has asked."""
    text = "/".join(
        [*(_digest(image) for image in pixels), hashlib.sha256(prompt.encode("utf-8", "replace")).hexdigest()]
    )
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def checked_order(order: object, count: int) -> Order:
    """An answer for a sheet of so many images, as tuples. Raises ValueError with one sentence."""
    wanted = f"best first, each place 0 to {count - 1} once, e.g. [[2], [0, 3], [1]]"
    if not isinstance(order, (list, tuple)) or not all(isinstance(tier, (list, tuple)) for tier in order):
        raise ValueError(f"order must be a list of lists of places: {wanted}.")
    places = [place for tier in order for place in tier]
    known = all(type(place) is int and 0 <= place < count for place in places)
    if not known or len(set(places)) != len(places) or not places or not all(order):
        raise ValueError(f"order {str(order)[:80]} doesn't fit {count} images: {wanted}.")
    return tuple(tuple(tier) for tier in order)


def pairs(order: Order) -> list[tuple[int, int]]:
    """(better, worse) places: every image of a tier against every one of the tiers below it."""
    return [
        (better, worse)
        for number, tier in enumerate(order)
        for better in tier
        for below in order[number + 1 :]
        for worse in below
    ]


def scores_of(order: Order, count: int) -> Tensor:
    """float32 (count,): 1 for the best place down to 0 for the last, ties at their mean place; NaN where not judged.

    Only the order counts: a group's advantages are differences to its mean, over its spread.
    """
    judged = sum(map(len, order))
    scores, before = torch.full((count,), torch.nan), 0
    for tier in order:
        place = before + (len(tier) - 1) / 2
        scores[list(tier)] = 1 - place / max(1, judged - 1) if judged > len(tier) else 0.5
        before += len(tier)
    return scores


def _take(state: State, line: bytes) -> None:
    """Adds what a line says; one that says nothing sensible is counted."""
    try:
        told = json.loads(line)
        kind = told["type"]
        if kind == "sheet":
            files = tuple(map(str, told["images"]))
            if not 2 <= len(files) <= MOST_SHOWN:
                raise ValueError
            sheet = Sheet(str(told["id"]), str(told["prompt"]), files, str(told["source"]), float(told["time"]))
            if state.waits(sheet.id):
                state.sheets.pop(sheet.id, None)  # asked again: it is the newest
                state.sheets[sheet.id] = sheet
            return
        sheet = state.sheets[told["sheet"]]
        if kind == "vote":
            order = checked_order(told["order"], len(sheet.images))
            _forget(state, sheet.id)
            state.answers[sheet.id] = order
            state.last.append(sheet.id)
        elif kind == "skip":
            _forget(state, sheet.id)
            state.skipped.add(sheet.id)
            state.last.append(sheet.id)
        elif kind == "undo":
            _forget(state, sheet.id)
    except (ValueError, KeyError, TypeError, RecursionError):
        state.damaged += bool(line.strip())


def _forget(state: State, sheet: str) -> None:
    state.answers.pop(sheet, None)
    state.skipped.discard(sheet)
    if sheet in state.last:
        state.last.remove(sheet)


def _digest(image: Tensor) -> str:
    return hashlib.sha256(str(tuple(image.shape)).encode() + image.contiguous().numpy().tobytes()).hexdigest()[:24]


def _ends_with_newline(path: Path) -> bool:
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def of_names(sheets: Iterable[Sheet]) -> list[str]:
    """The files of all images of some sheets, each once, in their order."""
    return list(dict.fromkeys(file for sheet in sheets for file in sheet.images))
