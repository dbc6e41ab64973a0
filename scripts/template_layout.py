"""Where the nodes of a template stand: notes first, then groups of columns from left to right.

A layout says only what stands beside and below what; the places follow from how much room each node may come to need:
on the canvas or as an element of the page, with its advanced widgets unfolded, and with what a run shows inside it.
"""

from __future__ import annotations

import math

# The frontends write a group's title in its own colour over a thin layer of the same: these stand out from both their
# dark canvas and their light one, as much as one colour can (2 to 1).
PREPARE, TRAIN, RESULTS = "#3f789e", "#338059", "#865ebd"

NOTE_WIDTH, WIDTH = 460, 340
WIDTHS = {
    "MixGRPO_Evaluate": 480, "MixGRPO_GroupSample": 400, "MixGRPO_Prompts": 400, "MixGRPO_RewardJudge": 440,
    "MixGRPO_Score": 520, "PreviewImage": 400, "PrimitiveStringMultiline": 400, "SaveImage": 400,
}  # fmt: skip
# Bodies of nodes that hold texts or images, or show them after a run; others are as high as their widgets want.
HEIGHTS = {
    "CLIPTextEncode": 150, "LoadImage": 400, "MixGRPO_Evaluate": 980, "MixGRPO_GroupSample": 460,
    "MixGRPO_PickBest": 420, "MixGRPO_Prompts": 420, "MixGRPO_SaveScored": 500, "MixGRPO_Score": 520,
    "PreviewImage": 620, "PrimitiveStringMultiline": 170, "SaveImage": 500,
}  # fmt: skip
RUN_DISPLAY = {"MixGRPO_Train": 260, "MixGRPO_Wait": 260}  # the curve and the newest sample
TITLE, SLOT, WIDGET, TEXT, PADDING, FOLD = 30, 20, 28, 48, 46, 30  # heights as Nodes 2.0 draws them: the higher ones
GAP, MARGIN, GROUP_TITLE = 26, 20, 66  # below a group's title the frontend writes a node's pack above the node
CHARACTERS, LINE = 66, 20  # of a note's line

# The first view, in a window of 1600 x 1000: the frontend's own bars cover so much of it on the left and above.
SCALE, COVERED = 0.75, (100, 130)


def place(layout: dict, nodes: dict[str, dict]) -> dict:
    """layout: "notes", and "rows" of groups, whose "columns" hold node ids.

    nodes: id -> its "type", and how many "slots", "widgets" and "texts" (widgets of several lines) it has. The answer
    has nodes: id -> [x, y, width, height], a height of 0 where it is the frontend's to choose; notes and groups with
    their places; ds, the first view.
    """
    notes, top = [], 0.0
    for note in layout["notes"]:
        height = note_height(note["text"])
        notes.append({**note, "pos": [0, top + TITLE], "size": [NOTE_WIDTH, height]})
        top += TITLE + height + GAP
    places: dict[str, list[float]] = {}
    groups, y = [], 0.0
    for row in layout["rows"]:
        x, bottoms = NOTE_WIDTH + 2.0 * MARGIN, []
        for group in row:
            columns, left, bottom = group["columns"], x, y
            x += MARGIN
            for column in columns:
                width = max(WIDTHS.get(nodes[key]["type"], WIDTH) for key in column)
                at = y + GROUP_TITLE
                for key in column:
                    places[key] = [x, at + TITLE, width, HEIGHTS.get(nodes[key]["type"], 0)]
                    at += TITLE + room(nodes[key]) + GAP
                x += width + MARGIN
                bottom = max(bottom, at)
            groups.append({**group, "bounding": [left, y, x - left, bottom - y]})
            bottoms.append(bottom)
            x += MARGIN
        y = max(bottoms) + MARGIN
    offset = [COVERED[0] / SCALE, COVERED[1] / SCALE]
    return {"nodes": places, "notes": notes, "groups": groups, "ds": {"scale": SCALE, "offset": offset}}


def room(node: dict) -> float:
    """The height that a node's body may come to need."""
    widgets = PADDING + SLOT * node["slots"] + WIDGET * node["widgets"] + TEXT * node["texts"]
    fold = FOLD if node["type"].startswith("MixGRPO_") else 0
    return max(widgets + fold + RUN_DISPLAY.get(node["type"], 0), HEIGHTS.get(node["type"], 0))


def note_height(text: str) -> int:
    return 40 + LINE * sum(max(1, math.ceil(len(line) / CHARACTERS)) for line in text.splitlines())
