"""Where the nodes of a card's template stand: five groups from left to right, the notes before them."""

from __future__ import annotations

from scripts.comfyui_server import ROOT

COMFYUI = "0.3.75"
# x, y, width, height of a node's body; the title stands above it.
PLACES = {
    "4": [20, 560, 400, 420],
    "5": [480, 120, 340, 190],
    "6": [480, 370, 340, 240],
    "7": [480, 670, 340, 320],
    "8": [480, 1050, 340, 220],
    "9": [880, 120, 340, 870],
    "10": [880, 1050, 340, 220],
    "11": [1280, 120, 360, 720],
    "12": [1280, 900, 360, 110],
    "13": [1700, 120, 320, 220],
    "14": [1700, 400, 320, 120],
    "15": [1700, 580, 320, 100],
    "16": [1700, 740, 320, 110],
    "17": [2080, 120, 280, 270],
    "18": [2080, 450, 280, 270],
    "19": [2400, 120, 180, 60],
    "20": [2400, 450, 180, 60],
    "21": [2620, 120, 340, 300],
    "22": [2620, 480, 340, 300],
}
LOADERS = {"1": [20, 120, 400, 130], "2": [20, 310, 400, 130], "3": [20, 500, 400, 60]}
WITH_THREE_LOADERS = {"4": [20, 620, 400, 420]}
GROUPS = [
    {"title": "1. Model and prompts", "bounding": [0, 40, 440, 1060], "color": "#3f789e"},
    {"title": "2. What is wanted", "bounding": [460, 40, 380, 1260], "color": "#3f789e"},
    {"title": "3. How it is learned", "bounding": [860, 40, 380, 1260], "color": "#3f789e"},
    {"title": "4. Train (in a background process)", "bounding": [1260, 40, 400, 1000], "color": "#8A8"},
    {"title": "5. Before and after, with stock nodes", "bounding": [1680, 40, 1300, 840], "color": "#88A"},
]
NOTES = {"What this does": ([-660, 40], [620, 620]), "The files, and where they go": ([-660, 720], [620, 480])}


def layout(caption: str, loaders: dict, *notes: str) -> dict:
    """caption: on the thumbnail. loaders: the nodes that load the model; notes: the texts of NOTES, in their order."""
    places = {**{number: LOADERS[number] for number in loaders}, **PLACES}
    if len(loaders) == len(LOADERS):
        places |= WITH_THREE_LOADERS
    return {
        "version": _version(),
        "comfyui": COMFYUI,
        "caption": caption,
        "nodes": places,
        "groups": GROUPS,
        "notes": [
            {"title": title, "pos": place, "size": size, "text": text}
            for (title, (place, size)), text in zip(NOTES.items(), notes, strict=True)
        ],
    }


def _version() -> str:
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    return next(line.split('"')[1] for line in lines if line.startswith("version"))
