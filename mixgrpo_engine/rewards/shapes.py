"""A judge of pictures of coloured shapes, in the manner of GenEval: look for objects, then compare with the caption.

It is made to be hard to cheat. An object counts only as far as an ideal circle, square or triangle of the same area
and centre explains it, within bounds of size; objects that nobody asked for share the credit; and whatever the ideal
picture of the objects found does not explain (smears, noise, tints, halves of shapes) costs score.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from ..shapes import BACKGROUNDS, COLORS, SHAPES, SIDE, Spec, parse
from . import check_batch
from .pictures import NOT_FINITE, counted

STRANGE_PROMPT = "its prompt isn't one about coloured shapes, such as 'a red circle on a white background'"
RESOLUTION = 64  # pixels of a picture's shorter side while it is judged
MIN_AREA = 20  # pixels; smaller things are dirt, not objects
MARGIN = 6  # pixels around an object in which its ideal shape is drawn

_COLOR_NAMES = list(COLORS)
_PALETTE = np.array([COLORS[name] for name in _COLOR_NAMES], dtype=np.float32)
_GROUND_NAMES = list(BACKGROUNDS)
_GROUNDS = np.array([BACKGROUNDS[name] for name in _GROUND_NAMES], dtype=np.float32)


@dataclass(frozen=True)
class Found:
    """One object of a picture. x, y: centre of its box; size: as in shapes.Object, all as fractions of the side."""

    color: str
    color_error: float  # distance to the palette's colour, 0..255
    shape: str  # the one that explains it best
    fits: dict[str, float]  # intersection over union with the ideal shape, for each shape
    x: float
    y: float
    size: float


@dataclass(frozen=True)
class Sight:
    """What is seen in a picture."""

    objects: list[Found]
    background: str
    background_error: float  # distance to the palette's background, 0..255
    error: float  # mean difference to the ideal picture of what was found, 0..1
    dirt: float  # pixels that differ from the ideal picture away from every object


class ShapesReward:
    """Scores pictures of the coloured-shapes world against captions of its grammar."""

    name = "shapes"

    def __init__(self) -> None:
        self.failures: list[str] = []

    def score(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Partial credit, float32 (batch,) in 0..1; NaN for a prompt outside the grammar or a broken image.

        images: float (batch, height, width, 3) in 0..1; prompts: one an image (ValueError if not).
        """
        verdicts, reasons = _judge(images, prompts, _credit)
        self.failures = counted(reasons, len(images))
        return verdicts

    def strict(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """1.0 where everything asked for is there and nothing else, else 0.0; NaN as in ``score``."""
        return _judge(images, prompts, _right)[0]


def _judge(images: Tensor, prompts: Sequence[str], verdict: Callable[[Spec, Sight], float]) -> tuple[Tensor, list[str]]:
    """(verdicts, why some are NaN)."""
    check_batch(images, prompts)
    verdicts, reasons = [], []
    for image, prompt in zip(images, prompts, strict=True):
        spec = parse(prompt)
        if spec is None or not image.isfinite().all():
            reasons.append(STRANGE_PROMPT if spec is None else NOT_FINITE)
            verdicts.append(math.nan)
        else:
            verdicts.append(float(verdict(spec, look(_prepare(image)))))
    return torch.tensor(verdicts, dtype=torch.float32), reasons


def _prepare(image: Tensor) -> np.ndarray:
    """A picture (height, width, 3) in 0..255, its shorter side RESOLUTION pixels long."""
    image = image.detach().to("cpu", torch.float32).clamp(0, 1)
    height, width = image.shape[:2]
    scale = RESOLUTION / min(height, width)
    if scale != 1:
        size = (round(height * scale), round(width * scale))
        image = F.interpolate(image.movedim(-1, 0)[None], size=size, mode="bilinear", antialias=True)[0].movedim(0, -1)
    return (image * 255).numpy()


# --- seeing -------------------------------------------------------------------------------------------------------


def look(picture: np.ndarray) -> Sight:
    """Find the objects of a picture (height, width, 3) in 0..255, its background, and what they leave unexplained."""
    height, width = picture.shape[:2]
    border = [picture[:2], picture[-2:], picture[:, :2], picture[:, -2:]]
    ground = np.median(np.concatenate([strip.reshape(-1, 3) for strip in border]), axis=0)
    distances = np.linalg.norm(_GROUNDS - ground, axis=1)
    amount, color = _unmix(picture, ground)

    side = min(height, width)
    objects = []
    ideal = np.broadcast_to(ground, picture.shape).astype(np.float32)
    near = np.zeros(amount.shape, dtype=bool)
    solid = np.where(amount > 0.5, color + 1, 0)
    areas = np.bincount(solid.ravel(), minlength=len(_COLOR_NAMES) + 1)
    for index in np.flatnonzero(areas[1:] >= MIN_AREA):
        labels, count = ndimage.label(solid == index + 1)
        for label, box in enumerate(ndimage.find_objects(labels, count), start=1):
            if np.count_nonzero(labels[box] == label) < MIN_AREA:
                continue
            part = tuple(slice(max(edge.start - MARGIN, 0), edge.stop + MARGIN) for edge in box)
            own = labels[part] == label
            soft = np.where(_grown(own) & (color[part] == index), amount[part].clip(0, 1), 0)
            shape, fits, distance, (x, y, size) = _fit(soft, part[0].start, part[1].start)
            tint = float(np.linalg.norm(np.median(picture[part][own], axis=0) - _PALETTE[index]))
            size = size / side / SIDE[shape]
            objects.append(Found(_COLOR_NAMES[index], tint, shape, fits, x / width, y / height, size))
            cover = (distance + 0.5).clip(0, 1)[..., None]
            ideal[part] = ideal[part] * (1 - cover) + _PALETTE[index] * cover
            near[part] |= distance > -2.5
    difference = np.abs(picture - ideal).mean(axis=2) / 255
    dirt = float(np.count_nonzero((difference > 0.06) & ~near))
    nearest = int(distances.argmin())
    return Sight(objects, _GROUND_NAMES[nearest], float(distances[nearest]), float(difference.mean()), dirt)


def _unmix(picture: np.ndarray, ground: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each pixel as background plus some amount of one palette colour: (amount, index of the colour).

    An edge pixel is a mixture, so it lies on the line from the background to its colour: the nearest line wins.
    """
    toward = _PALETTE - ground  # (colors, 3)
    length = np.square(toward).sum(axis=1).clip(min=1)  # a background may have a palette colour
    offset = picture - ground
    along = np.maximum(offset @ toward.T, 0)  # (height, width, colors)
    color = (along**2 / length).argmax(axis=2)
    amount = np.take_along_axis(along / length, color[..., None], axis=2)[..., 0]
    return amount, color


def _grown(mask: np.ndarray) -> np.ndarray:
    """The mask and its neighbours: an object's soft edge."""
    padded = np.pad(mask, 1)
    mask = padded[:-2] | padded[1:-1] | padded[2:]
    return mask[:, :-2] | mask[:, 1:-1] | mask[:, 2:]


def _fit(soft: np.ndarray, top: int, left: int) -> tuple[str, dict[str, float], np.ndarray, tuple[float, float, float]]:
    """Explain a soft mask by an ideal shape of its area and centre of mass; there is nothing else to adjust.

    top, left: where the mask lies in the picture. Returns the best shape, the intersection over union of each shape,
    the best one's signed distance (pixels, positive inside) and its box (x, y, side).
    """
    rows = np.arange(top, top + soft.shape[0], dtype=np.float32)[:, None] + 0.5
    columns = np.arange(left, left + soft.shape[1], dtype=np.float32)[None] + 0.5
    area = float(soft.sum())
    x, y = float((soft * columns).sum()) / area, float((soft * rows).sum()) / area
    fits, drawn = {}, {}
    for shape in SHAPES:
        if shape == "circle":
            box = (x, y, 2 * math.sqrt(area / math.pi))
            distance = box[2] / 2 - np.hypot(columns - x, rows - y)
        elif shape == "square":
            box = (x, y, math.sqrt(area))
            distance = box[2] / 2 - np.maximum(np.abs(columns - x), np.abs(rows - y))
        else:
            side = math.sqrt(2 * area)
            box = (x, y - side / 6, side)  # the centre of mass is two thirds down
            slope = (side / 2 * (rows - box[1] + side / 2) / side - np.abs(columns - x)) * (2 / math.sqrt(5))
            distance = np.minimum(slope, box[1] + side / 2 - rows)
        cover = (distance + 0.5).clip(0, 1)
        common = float(np.minimum(cover, soft).sum())
        fits[shape] = common / (float(cover.sum()) + area - common)
        drawn[shape] = distance, box
    best = max(fits, key=fits.__getitem__)
    return best, fits, *drawn[best]


# --- judging ------------------------------------------------------------------------------------------------------


def _ramp(value: float, zero: float, one: float) -> float:
    """0 at ``zero``, 1 at ``one``, straight between and flat beyond."""
    return min(max((value - zero) / (one - zero), 0.0), 1.0)


def _lead(found: Found, shape: str) -> float:
    """How much better this shape explains the object than any other does; about 0.15 for a clean one.

    A square with round corners is neither a good square nor a good circle: its lead is near 0.
    """
    return found.fits[shape] - max(fit for other, fit in found.fits.items() if other != shape)


def _likeness(found: Found, color: str, shape: str) -> float:
    """How much an object is the one asked for, 0..1: it is there, its colour, its shape; all within bounds of size."""
    hue = _ramp(found.color_error, 90, 30) if found.color == color else 0.0
    form = _ramp(found.fits[shape], 0.65, 0.9) * _ramp(_lead(found, shape), -0.1, 0.08)
    size = _ramp(found.size, 0.12, 0.2) * _ramp(found.size, 0.65, 0.5)
    return size * (0.2 + 0.4 * hue + 0.4 * form)


def _match(spec: Spec, sight: Sight) -> tuple[list[Found | None], float]:
    """The object found for each one asked for (None: missing), and the credit for them; every extra one shares it."""
    wanted = [(color, shape) for color, shape, count in spec.items for _ in range(count)]
    if not sight.objects:
        return [None] * len(wanted), 0.0
    likeness = np.array([[_likeness(found, *item) for found in sight.objects] for item in wanted])
    rows, columns = linear_sum_assignment(-likeness)
    partners: list[Found | None] = [None] * len(wanted)
    for row, column in zip(rows, columns, strict=True):
        partners[row] = sight.objects[column]
    return partners, float(likeness[rows, columns].sum()) / max(len(wanted), len(sight.objects))


def _offset(spec: Spec, partners: Sequence[Found | None]) -> tuple[float, float] | None:
    """How far the place asked for is reached: (along the asked direction, away from it), fractions of the side.

    A relation is measured between the two objects, a position from the picture's centre. None if objects are missing.
    """
    found = [each for each in partners if each is not None]
    if len(found) < len(partners):
        return None
    direction = spec.relation or spec.position
    x, y = found[0].x - 0.5, found[0].y - 0.5
    if spec.relation:
        x, y = found[0].x - found[1].x, found[0].y - found[1].y
    along, across = (x, y) if direction in ("left", "right") else (y, x)
    return (-along if direction in ("left", "above", "top") else along), abs(across)


def _cleanness(sight: Sight) -> float:
    """1 for a picture that is fully explained on a background of the palette, toward 0 for anything else."""
    return (
        _ramp(sight.error, 0.08, 0.012) * _ramp(sight.dirt, 150, 3) * _ramp(sight.background_error, 90, 25)
    )  # fmt: skip


def _credit(spec: Spec, sight: Sight) -> float:
    """Partial credit: objects, times what else was asked, times how clean the picture is."""
    partners, objects = _match(spec, sight)
    extras = []
    if spec.relation or spec.position:
        offset = _offset(spec, partners)
        extras.append(0.0 if offset is None else _ramp(offset[0], 0.0, 0.18 if spec.relation else 0.12))
    if spec.background:
        extras.append(float(sight.background == spec.background))
    asked = sum(extras) / len(extras) if extras else 1.0
    return objects * (0.5 + 0.5 * asked) * _cleanness(sight)


def _right(spec: Spec, sight: Sight) -> bool:
    """Everything asked for, and nothing else."""
    if sight.error > 0.035 or sight.dirt > 10 or sight.background_error > 40:
        return False
    if spec.background and sight.background != spec.background:
        return False
    partners, _ = _match(spec, sight)
    there = [each for each in partners if each is not None]
    if len(there) < len(partners) or len(sight.objects) != spec.count:
        return False
    wanted = [(color, shape) for color, shape, count in spec.items for _ in range(count)]
    for found, (color, shape) in zip(there, wanted, strict=True):
        if (found.color, found.shape) != (color, shape) or found.color_error > 50:
            return False
        if found.fits[shape] < 0.8 or _lead(found, shape) < 0.05 or not 0.18 <= found.size <= 0.52:
            return False
    if spec.relation or spec.position:
        offset = _offset(spec, there)
        assert offset is not None  # none is missing
        along, across = offset
        return along >= 0.15 and along >= across if spec.relation else along >= 0.1
    return True
