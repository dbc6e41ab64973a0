"""The scores of images as JSON for programs, and as a table for people."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from ...mixgrpo_engine.rewards.scoring import Scored, ranking

DEEPEST = 4  # lists within lists: of batches, of rows such as a tensor (images, 1) has
PROMPT_WIDTH = 60  # characters of a prompt in the table


def number(value: float | Tensor) -> float | None:
    """A plain float, or None (null in JSON) for a failed score."""
    return float(value) if math.isfinite(value) else None


def mean(scores: Tensor) -> float:
    """Over the images that could be scored; NaN when none could."""
    return float(scores.double().nanmean())


def report(scored: Scored, prompts: Sequence[str]) -> dict:
    """Everything about the scores as JSON-ready data: of the whole, and of each image in the images' order."""
    ranks = {place: rank for rank, place in enumerate(ranking(scored.total), 1)}
    return {
        "reward": scored.name,
        "shares": scored.shares,
        "mean": number(mean(scored.total)),
        "scored": len(ranks),
        "failed": len(prompts) - len(ranks),
        "reasons": list(scored.reasons),
        "remarks": list(scored.remarks),
        "images": [
            {
                "image": place,
                "prompt": prompt,
                "score": number(scored.total[place]),
                "rank": ranks.get(place),
                "parts": {name: number(values[place]) for name, values in scored.parts.items()},
            }
            for place, prompt in enumerate(prompts)
        ],
    }


def report_of_numbers(scores: Sequence[float | None]) -> dict:
    """The same of bare scores; None is a failed one."""
    import torch

    values = torch.tensor([math.nan if score is None else score for score in scores], dtype=torch.float64)
    ranks = {place: rank for rank, place in enumerate(ranking(values), 1)}
    images = [{"image": place, "score": number(value), "rank": ranks.get(place)} for place, value in enumerate(values)]
    failed = len(scores) - len(ranks)
    return {"mean": number(mean(values)), "scored": len(ranks), "failed": failed, "reasons": [], "images": images}


def read(scores: Sequence) -> dict:
    """A report of what came over a wire: numbers, of numpy and torch too, or one JSON text (a report, or such a list).

    Lists, arrays and tensors among them count as their numbers: one a batch of images. Raises ValueError with one
    sentence for anything else.
    """
    if len(scores) == 1 and isinstance(scores[0], str):
        return _read_json(scores[0])
    return report_of_numbers(_checked_all(scores))


def _read_json(text: str) -> dict:
    try:
        # NaN and Infinity, which aren't JSON, stand for failed scores.
        value = json.loads(text, parse_constant=lambda _: None, parse_int=_whole)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"scores isn't JSON ({error}): connect an output of MixGRPO Score.") from None
    if isinstance(value, list):
        return report_of_numbers(_checked_all(value))
    images = value.get("images") if isinstance(value, dict) else None
    if not isinstance(images, list) or not all(isinstance(entry, dict) and "score" in entry for entry in images):
        raise ValueError(
            'scores is JSON, but neither a list of numbers nor {"images": [{"score": ...}, ...]}: connect an output '
            "of MixGRPO Score."
        )
    for place, entry in enumerate(images):
        entry["score"] = _checked(entry["score"], place)
    return value


def _whole(digits: str) -> int | None:
    """A whole number, or None for one that is as good as infinite."""
    return int(digits) if len(digits) < 300 else None


def _checked_all(scores: Sequence) -> list[float | None]:
    return [_checked(score, place) for place, score in enumerate(_flat(scores))]


def _flat(value: Any, depth: int = 0) -> Iterator[Any]:
    """What lists within lists hold, one after the other, each as a plain number if it is one."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple)) and depth < DEEPEST:
        for each in value:
            yield from _flat(each, depth + 1)
    else:
        yield value


def _checked(score: object, place: int) -> float | None:
    if score is not None and (isinstance(score, bool) or not isinstance(score, (int, float))):
        raise ValueError(f"Score {place} is {repr(score)[:80]}: it must be a number, or null where scoring failed.")
    return score if score is None or math.isfinite(score) else None


def table(report: dict) -> str:
    """Aligned text, best image first, the failed ones last; below it the mean and what the scorers say."""
    entries = sorted(report["images"], key=lambda entry: (entry.get("rank") is None, entry.get("rank") or 0))
    names = list(entries[0].get("parts", {})) if entries else []
    names = names if len(names) > 1 else []  # a single scorer's score is the total
    header = ["rank", "image", "score", *names]
    rows = [
        [_text(entry.get("rank")), str(entry.get("image", "-")), _text(entry["score"])]
        + [_text(entry["parts"].get(name)) for name in names]
        for entry in entries
    ]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in [header, *rows]]
    prompts = [" ".join(str(entry.get("prompt", "")).split()) for entry in entries]
    if len(set(prompts)) > 1:
        lines = [f"{line}  {text[:PROMPT_WIDTH]}" for line, text in zip(lines, ["prompt", *prompts], strict=True)]
    return "\n".join([*lines, "", summary(report), *report.get("reasons", []), *report.get("remarks", [])])


def summary(report: dict) -> str:
    """The mean in a sentence, with the number of images that it leaves out."""
    scored, failed = report["scored"], report["failed"]
    words = f"mean {_text(report['mean'])} of {scored} image{'s' * (scored != 1)}"
    return f"{words}; {failed} could not be scored and {'are' if failed > 1 else 'is'} left out" if failed else words


def _text(value: float | int | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.4f}"


def dump(report: dict) -> str:
    return json.dumps(report, indent=1, allow_nan=False)
