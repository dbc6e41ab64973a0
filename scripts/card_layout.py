"""How the nodes of a card's template stand: five groups from left to right."""

from __future__ import annotations

from scripts.template_layout import PREPARE, RESULTS, TRAIN


def layout(loaders: dict, what_it_does: str, files: str) -> dict:
    """loaders: the nodes that load the model; what_it_does, files: the notes' texts."""
    what_both_share = ["12", "13", "14", "15", "16"]
    groups: list[tuple[str, list[list[str]], str]] = [
        ("1. Model, prompts, LoRA", [[*loaders, "4", "10"]], PREPARE),
        ("2. What is wanted", [["5", "6", "7", "8"]], PREPARE),
        ("3. How it is learned", [["9"]], PREPARE),
        ("4. Train (in a background process)", [["11"]], TRAIN),
        ("5. Before and after, with stock nodes", [what_both_share, ["17", "19", "18", "20"], ["21", "22"]], RESULTS),
    ]
    return {
        "notes": [
            {"title": "What this does", "text": what_it_does},
            {"title": "The files, and where they go", "text": files},
        ],
        "rows": [[{"title": title, "columns": columns, "color": color} for title, columns, color in groups]],
    }
