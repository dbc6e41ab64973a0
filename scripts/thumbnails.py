"""Makes the templates' pictures in the template browser: `python -m scripts.thumbnails [NAME ...]`.

Beside the picture the browser shows a file's name and nothing else: what a person has to know stands in the picture.

A template that runs on the embedded tiny model is run as it is shipped, and its picture shows the images that it made.
One that needs other files gets a card with what is in it, in words.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from scripts import card_templates
from scripts.comfyui_server import ROOT, ComfyServer

SIZE, BORDER, COLUMNS, LABEL = 512, 10, 4, 30  # pixels, but for the columns
BACKGROUND, TEXT, FAINT, ACCENT = "#1d1e22", "#f2f2f2", "#a2a4ac", "#6fb3e0"
# Template -> label and the title of the node whose images stand below it.
IMAGES = {
    "shapes_alignment": {"start here, no download: before": "Before", "after minutes on a CPU": "After"},
    "edit_alignment": {
        "a picture": "The picture that is edited",
        "edited, before": "Before",
        "edited, after": "After",
    },
    "hybrid_inference": {
        "base": "Images: only the base",
        "tuned, then base": "Images: tuned, then base",
        "tuned": "Images: only the tuned",
    },
    "explore_group": {"a group with its rewards": "The group with its rewards"},
    "compare_models": {"base against tuned": "Side by side"},
    "rank_images": {"twelve images": "All images", "the best four": "Save them with their scores"},
}
# Template -> title, lines.
WORDS = {
    "preference_scores": (
        "What people prefer",
        "HPS v2.1|PickScore|ImageReward|CLIPScore|Aesthetic||score, rank, keep",
    ),
    "your_taste": (
        "Your taste",
        "pick the best and the worst:|the training learns from it,||and a scorer of your own|in minutes on a CPU",
    ),
    "judge_images": ("Ask a judge", "a vision language model|and OCR for quoted text||on a server of yours"),
    "judge_edits": (
        "Judge edits",
        "was the instruction followed?|is the rest as it was?|which edit wins?||beside their source picture",
    ),
    "http_reward": ("Your own scorer", "any model, any machine,|any Python||a server in ten lines"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="templates; all by default")
    chosen = parser.parse_args().names or [*IMAGES, *WORDS, *card_templates.SOURCES]
    for name in chosen:
        if name in card_templates.SOURCES:
            save(name, card(*words_of(name)))
        elif name in WORDS:
            title, lines = WORDS[name]
            save(name, card(title, lines.split("|")))
    if chosen := [name for name in chosen if name in IMAGES]:
        with tempfile.TemporaryDirectory() as base, ComfyServer(Path(base)) as server:
            for name in chosen:
                save(name, contact_sheet(made_by(server, name)))


def words_of(name: str) -> tuple[str, list[str]]:
    """Title and lines of a card's template."""
    key, its = card_templates.card_of(name)
    config = its.config()
    model = key.split(",")[0]
    return "A diffusers folder" if name in card_templates.CARD_OF else model, [
        f"{its.gigabytes} GB, {config.run.width} x {config.run.height}",
        *([model] if name in card_templates.CARD_OF else []),
        f"a LoRA of rank {config.adapter.rank}",
        "for HPS v2.1 + CLIPScore",
        "",
        "memory estimated, not yet run on a GPU",
    ]


def made_by(server: ComfyServer, name: str) -> dict[str, list[Image.Image]]:
    """Label -> images, of a template's whole run."""
    prompt = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))
    outputs = server.run(prompt, seconds=3600)
    by_title = {node["_meta"]["title"]: key for key, node in prompt.items()}
    return {
        label: [
            Image.open(io.BytesIO(server.view(image))).convert("RGB") for image in outputs[by_title[title]]["images"]
        ]
        for label, title in IMAGES[name].items()
    }


def contact_sheet(images: dict[str, list[Image.Image]]) -> Image.Image:
    """Rows of images below their labels; one picture alone fills the sheet."""
    sheet = Image.new("RGB", (SIZE, SIZE), BACKGROUND)
    pen = ImageDraw.Draw(sheet)
    rows = sum(-(-len(each) // COLUMNS) for each in images.values())
    alone = rows == 1 and len(images) == 1
    free = SIZE - BORDER - LABEL * len(images)
    cell = free if alone else min((SIZE - BORDER) // COLUMNS, free // rows)
    columns = 1 if alone else COLUMNS
    left = (SIZE - columns * cell) // 2
    y = 4
    for label, each in images.items():
        # On the right: newer frontends lay a badge over the left corner.
        pen.text((SIZE - max(left, BORDER), y + LABEL // 2), label, TEXT, font(19), anchor="rm")
        y += LABEL
        for start in range(0, len(each), columns):
            for column, image in enumerate(each[start : start + columns]):
                sheet.paste(fitted(image, cell - 4), (left + column * cell + 2, y + 2))
            y += cell
    return sheet


def fitted(image: Image.Image, size: int) -> Image.Image:
    """The image in a square of this size, whole."""
    scale = size / max(image.size)
    square = Image.new("RGB", (size, size), BACKGROUND)
    image = image.resize([round(side * scale) for side in image.size], Image.LANCZOS)
    square.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
    return square


def card(title: str, lines: list[str]) -> Image.Image:
    sheet = Image.new("RGB", (SIZE, SIZE), BACKGROUND)
    pen = ImageDraw.Draw(sheet)
    pen.rectangle((0, 0, 12, SIZE), ACCENT)
    size = 56
    while pen.textlength(title, font(size)) > SIZE - 80:
        size -= 2
    pen.text((44, 90), title, TEXT, font(size), anchor="lm")
    pen.line((44, 140, SIZE - 36, 140), ACCENT, 3)
    for row, line in enumerate(lines):
        last = row == len(lines) - 1
        pen.text((44, 190 + 46 * row), line, FAINT if last else TEXT, font(24 if last else 32), anchor="lm")
    return sheet


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def save(name: str, picture: Image.Image) -> None:
    path = ROOT / "workflows" / f"{name}.jpg"
    picture.save(path, quality=85, optimize=True)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
