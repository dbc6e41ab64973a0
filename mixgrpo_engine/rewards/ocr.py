"""Does the picture show the text that the prompt quotes? Read by RapidOCR, compared letter by letter."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from . import check_batch, go_on
from .pictures import NOT_FINITE, counted, picture
from .quoted import quoted_texts

if TYPE_CHECKING:
    from rapidocr import RapidOCR

NOTHING_QUOTED = "its prompt has no text in quotes, so there is nothing to look for in the picture"
PACKAGES = {"rapidocr": "rapidocr>=3.10", "onnxruntime": "onnxruntime>=1.17"}
"""Modules -> what to install for them: the extra "ocr" of pyproject.toml."""


@dataclass(frozen=True)
class Line:
    """A piece of text found in a picture, and where: pixels from the top left."""

    text: str
    left: float
    top: float
    bottom: float


class OcrReward:
    """1 - distance / length, as in Flow-GRPO (arXiv 2505.05470, section 4), mean over the prompt's quoted texts.

    distance: insertions, deletions and replacements of letters that make the target of what was read; 0 when the
    picture holds the target anywhere, else the least over any run of neighbouring lines, and never more than the
    target's length. So the score is 0 (nothing like it) to 1 (there, letter by letter). Case and white space don't
    count.
    """

    name = "ocr"

    def __init__(self, threads: int = 0) -> None:
        """threads: to read with; 0 takes half of the cores, at most 8, since the model's own work goes on beside it."""
        self.threads = threads or max(1, min(8, (os.cpu_count() or 1) // 2))
        self.failures: list[str] = []
        self._reader: RapidOCR | None = None

    def score(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """float32 (batch,) in 0..1; NaN for a prompt without quoted text and for an image that isn't finite.

        Raises ValueError for a wrong shape, RuntimeError with one sentence when RapidOCR isn't there.
        """
        check_batch(images, prompts)
        scores, reasons = [], []
        for image, prompt in zip(images, prompts, strict=True):
            go_on()
            targets, shown = _targets(prompt), picture(image)
            if not targets or shown is None:
                reasons.append(NOTHING_QUOTED if not targets else NOT_FINITE)
                scores.append(float("nan"))
                continue
            lines = [letters(line.text) for line in reading_order(self._read(shown))]
            scores.append(sum(similarity(lines, target) for target in targets) / len(targets))
        self.failures = counted(reasons, len(images))
        return torch.tensor(scores, dtype=torch.float32)

    def _read(self, shown: Image.Image) -> list[Line]:
        if self._reader is None:
            self._reader = load_reader(self.threads)
        found: Any = self._reader(shown)  # its type tells the outputs apart that only other options give
        if found.txts is None or found.boxes is None:
            return []
        return [
            Line(text, float(box[:, 0].min()), float(box[:, 1].min()), float(box[:, 1].max()))
            for text, box in zip(found.txts, found.boxes, strict=True)
        ]


def require_packages() -> None:
    """Raises RuntimeError with one sentence, which says how to install them, when RapidOCR's packages aren't there."""
    missing = [package for module, package in PACKAGES.items() if importlib.util.find_spec(module) is None]
    if missing:
        wanted = " ".join(f'"{package}"' for package in missing)
        raise RuntimeError(f'The OCR reward needs RapidOCR: install it by "{sys.executable}" -m pip install {wanted}')


def load_reader(threads: int) -> RapidOCR:
    """RapidOCR with the models of its own package: nothing is ever downloaded.

    Raises RuntimeError with one sentence when it isn't installed, or was installed without its models.
    """
    require_packages()
    from rapidocr import RapidOCR

    # By their paths: for a model that it has to look for itself, RapidOCR would ask the network.
    models = packaged_models()
    return RapidOCR(
        params={
            "Global.log_level": "error",
            "EngineConfig.onnxruntime.intra_op_num_threads": threads,
            **{f"{task}.model_path": str(path) for task, path in models.items()},
        }
    )


def packaged_models() -> dict[str, Path]:
    """ "Det", "Cls", "Rec" -> the model's file in RapidOCR's package. Raises RuntimeError when one isn't there."""
    files = [file for file in importlib.metadata.files("rapidocr") or () if file.suffix == ".onnx"]
    models = {}
    for task in ("Det", "Cls", "Rec"):
        of_task = [Path(file.locate()) for file in files if f"_{task.lower()}_" in file.name]
        if not of_task or not of_task[0].is_file():
            raise RuntimeError(
                f"RapidOCR is installed without its model for '{task}': install it anew by "
                f'"{sys.executable}" -m pip install --force-reinstall --no-deps "{PACKAGES["rapidocr"]}"'
            )
        models[task] = of_task[0]
    return models


def reading_order(lines: Sequence[Line]) -> list[Line]:
    """From top to bottom, and from left to right among those that stand side by side."""
    ordered: list[list[Line]] = []
    for line in sorted(lines, key=lambda line: line.top + line.bottom):
        row = ordered[-1] if ordered else []
        # Side by side: its middle is at the height of the row's first piece.
        if row and row[0].top < (line.top + line.bottom) / 2 < row[0].bottom:
            row.append(line)
        else:
            ordered.append([line])
    return [line for row in ordered for line in sorted(row, key=lambda line: line.left)]


def letters(text: str) -> str:
    """What is compared: case and white space are left out."""
    return "".join(text.split()).casefold()


def similarity(lines: Sequence[str], target: str) -> float:
    """1 - distance / length of a target against lines in reading order: see OcrReward. All as letters() gives them."""
    if target in "".join(lines):
        return 1.0
    least = len(target)
    for first in range(len(lines)):
        run = ""
        for line in lines[first:]:
            run += line
            # From here on the letters too many alone cost more than the best so far.
            if len(run) - len(target) >= least:
                break
            least = min(least, edit_distance(run, target))
    return 1 - least / len(target)


def edit_distance(one: str, other: str) -> int:
    """Levenshtein's: the fewest insertions, deletions and replacements of letters that make `other` of `one`."""
    costs = list(range(len(other) + 1))
    for row, letter in enumerate(one, 1):
        diagonal, costs[0] = costs[0], row
        for column, wanted in enumerate(other, 1):
            diagonal, costs[column] = (
                costs[column],
                min(diagonal + (letter != wanted), costs[column] + 1, costs[column - 1] + 1),
            )
    return costs[-1]


def _targets(prompt: str) -> list[str]:
    return [target for target in map(letters, quoted_texts(prompt)) if target]
