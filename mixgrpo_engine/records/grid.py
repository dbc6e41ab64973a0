"""Labelled image grids, for people to look at."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

BACKGROUND = (250, 250, 250)
INK = (30, 30, 30)


def labelled_grid(
    images: Sequence[Tensor] | Tensor,
    labels: Sequence[str],
    columns: int,
    *,
    cell: int = 128,
    title: str = "",
    label_lines: int = 2,
) -> Image.Image:
    """images: (height, width, 3) each, in 0..1 or bytes, row by row; labels: one an image, wrapped below it.

    Small images are enlarged without smoothing to about `cell` pixels, so that their pixels stay what they are.
    """
    pictures = [_fitted(image, cell) for image in images]
    size = tuple(map(max, zip(*(picture.size for picture in pictures), strict=True)))
    font, title_font = ImageFont.load_default(11), ImageFont.load_default(16)
    gap, line = 6, 13
    text_height = line * label_lines if any(labels) else 0
    top = 26 if title else gap
    rows = -(-len(pictures) // columns)
    step_x, step_y = size[0] + gap, size[1] + text_height + gap
    sheet = Image.new("RGB", (columns * step_x + gap, top + rows * step_y), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    if title:
        draw.text((gap, 4), title, INK, title_font)
    for index, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        x, y = gap + index % columns * step_x, top + index // columns * step_y
        sheet.paste(picture, (x, y))
        for number, text in enumerate(_wrap(label, draw, font, size[0])[:label_lines]):
            draw.text((x, y + size[1] + number * line), text, INK, font)
    return sheet


def stills(strips: Tensor, frames: int) -> tuple[Tensor, str]:
    """Videos as pictures for a grid: first, middle and last frame side by side.

    strips: (batch, frames * height, width, 3), a video's frames one below the other; images where frames is 1. Gives
    (pictures (batch, height, shown * width, 3), the frames' numbers in words for a title: "" for images).
    """
    if frames == 1:
        return strips, ""
    numbers = sorted({1, frames // 2 + 1, frames})
    videos = strips.unflatten(1, (frames, -1))
    words = ", ".join(map(str, numbers[:-1]))
    return torch.cat([videos[:, number - 1] for number in numbers], dim=2), (
        f"frames {words} and {numbers[-1]} of {frames}"
    )


def to_bytes(images: Tensor) -> Tensor:
    """Values in 0..1 as uint8, on the CPU."""
    return images.clamp(0, 1).mul_(255).round_().to(torch.uint8).cpu()


def _fitted(image: Tensor, cell: int) -> Image.Image:
    """The longer side gets `cell` pixels."""
    height, width = image.shape[:2]
    factor = cell / max(height, width)
    array = (image if image.dtype == torch.uint8 else to_bytes(image)).numpy()
    resample = Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.LANCZOS
    return Image.fromarray(array).resize((round(width * factor), round(height * factor)), resample)


def _wrap(
    text: str, draw: ImageDraw.ImageDraw, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int
) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if draw.textlength(longer, font) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
