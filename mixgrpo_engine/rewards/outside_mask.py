"""What an edit leaves alone: the difference to the source picture outside the mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from . import check_batch
from .pictures import NOT_FINITE, counted
from .references import IMAGE, MASK, References

MAX_STRETCH = 1.1  # models round sides to multiples of 8 to 64 pixels; beyond that pixels don't lie upon each other
EVERYWHERE = "its mask lets everything change, so nothing can be compared"


class OutsideMaskReward:
    """1 minus the mean absolute difference to the source where the mask doesn't allow a change: 1 is untouched, 0 is
    black for white everywhere. Prompts are ignored.

    Source and mask are brought to the image's size. Decoding by a VAE alone costs 0.01 to 0.03.
    """

    name = "outside_mask"
    uses_references = True
    needed_references = (IMAGE, MASK)

    def __init__(self) -> None:
        self.failures: list[str] = []

    def score(self, images: Tensor, prompts: Sequence[str], references: Sequence[References] = ()) -> Tensor:
        """float32 (batch,); NaN, with its reason in `failures`, where nothing can be compared.

        references: one an image, with "image" and "mask" (1 where the picture may change), each of any size.
        """
        check_batch(images, prompts)
        scores, reasons = torch.full((len(images),), torch.nan), []
        for row, image in enumerate(images):
            found = _unchanged(image, references[row].images)
            if isinstance(found, str):
                reasons.append(found)
            else:
                scores[row] = found
        self.failures = counted(reasons, len(images))
        return scores


def _unchanged(image: Tensor, reference: Mapping[str, Tensor]) -> float | str:
    """The score of (height, width, 3), or why there is none."""
    image, source = (_channels_first(each) for each in (image, reference[IMAGE]))
    mask = _channels_first(reference[MASK][..., None])
    if not all(each.isfinite().all() for each in (image, source, mask)):
        return NOT_FINITE
    for name, each in (("source", source), ("mask", mask)):
        ratios = [shown.shape[2] / shown.shape[1] for shown in (image, each)]
        if max(ratios) / min(ratios) > MAX_STRETCH:
            sizes = [f"{shown.shape[2]} x {shown.shape[1]}" for shown in (image, each)]
            return f"it has {sizes[0]} pixels and its {name} {sizes[1]}: another shape, so pixels can't be compared"
    kept = 1 - _resized(mask, image).clamp(0, 1)
    if kept.sum() < 1:
        return EVERYWHERE
    difference = (image.clamp(0, 1) - _resized(source, image).clamp(0, 1)).abs().mean(0, keepdim=True)
    return 1 - float((difference * kept).sum() / kept.sum())


def _channels_first(image: Tensor) -> Tensor:
    return image.detach().float().cpu().movedim(-1, 0)


def _resized(image: Tensor, like: Tensor) -> Tensor:
    if image.shape[1:] == like.shape[1:]:
        return image
    return F.interpolate(image[None], like.shape[1:], mode="bilinear", antialias=True)[0]
