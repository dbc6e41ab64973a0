"""Adds images that are already there to a set of votes: a training's newest group, or a folder of ComfyUI's images."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ...mixgrpo_engine.taste.votes import Sheet, VoteSet
from ..runs import gallery, overview, paths

SHOWN = 4  # images of a sheet
MOST_FILES = 2000
ENDINGS = (".png", ".webp", ".jpg", ".jpeg")


def add_group(votes: VoteSet, run_id: str, iteration: int | None = None) -> list[Sheet]:
    """The newest training group of a run. Raises ValueError with one sentence when there is none.

    iteration: whose group is meant: while somebody looks at one, the next may have come.
    """
    folder = overview.find(run_id)
    group = gallery.group(folder) if folder else {"images": []}
    files = [
        paths.output_directory() / each["view"]["subfolder"] / each["view"]["filename"] for each in group["images"]
    ]
    if len(files) < 2:
        raise ValueError(f"Run '{run_id[:80]}' has no group of images to vote on.")
    if iteration not in (None, group["iteration"]):
        raise ValueError("The training has gone on to another group: look at the newest one, and vote on that.")
    return _sheets(votes, {str(group["prompt"]): files}, run_id)


def add_folder(votes: VoteSet, kind: str, subfolder: str) -> list[Sheet]:
    """Images of a folder below ComfyUI's output or input, those of one prompt side by side.

    The prompt is what the image's own metadata says. Raises ValueError with one sentence for a folder that isn't
    there, lies elsewhere, or holds no two images of one prompt and size.
    """
    import folder_paths

    roots = {"output": folder_paths.get_output_directory, "input": folder_paths.get_input_directory}
    if kind not in roots:
        raise ValueError(f"type is '{kind[:40]}': choose {' or '.join(roots)}.")
    root = Path(roots[kind]()).resolve()
    try:
        folder = (root / subfolder).resolve()
        is_there = folder.is_relative_to(root) and folder.is_dir()
    except (OSError, ValueError):  # a name that is too long, or holds what no name may
        is_there = False
    if not is_there:
        raise ValueError(f"There is no folder '{subfolder[:80]}' in ComfyUI's {kind} folder.")
    found: dict[tuple[str, tuple[int, int]], list[Path]] = defaultdict(list)
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS)[:MOST_FILES]
    for path in files:
        if (about := _looked_at(path)) and path.resolve().is_relative_to(root):
            found[about].append(path)
    groups = {about: paths for about, paths in found.items() if len(paths) >= 2}
    if not groups:
        raise ValueError(f"'{subfolder[:80] or kind}' holds no two images of one prompt and one size.")
    return [sheet for (prompt, _), paths in groups.items() for sheet in _sheets(votes, {prompt: paths})]


def prompt_of(graph: Any) -> str:
    """The positive prompt of a graph that an image carries: the text that a sampler's `positive` leads to, else ""."""
    inputs = {
        name: node["inputs"]
        for name, node in (graph.items() if isinstance(graph, dict) else ())
        if isinstance(node, dict) and isinstance(node.get("inputs"), dict)
    }
    for sampler in [each for each in inputs.values() if "positive" in each]:
        here = sampler
        for _ in range(20):  # through what stands between them: guidance, control
            link = here.get("positive", here.get("conditioning"))
            if not (isinstance(link, list) and link and isinstance(link[0], str) and link[0] in inputs):
                break
            here = inputs[link[0]]
            if isinstance(text := here.get("text"), str):
                return text
    return ""


def _sheets(votes: VoteSet, files: dict[str, list[Path]], source: str = "") -> list[Sheet]:
    """Sheets of SHOWN images; a single one that is left joins the last sheet."""
    made = []
    for prompt, paths_of_prompt in files.items():
        starts = [start for start in range(0, len(paths_of_prompt), SHOWN) if len(paths_of_prompt) - start > 1]
        for start in starts:
            end = start + SHOWN if start != starts[-1] else len(paths_of_prompt)
            made.append(votes.add(torch.stack([_pixels(path) for path in paths_of_prompt[start:end]]), prompt, source))
    return made


def _pixels(path: Path) -> Tensor:
    with Image.open(path) as picture:
        values = torch.frombuffer(bytearray(picture.convert("RGB").tobytes()), dtype=torch.uint8)
        return values.view(picture.height, picture.width, 3).float() / 255


def _looked_at(path: Path) -> tuple[str, tuple[int, int]] | None:
    """(prompt, size) of an image file, None for a file that is none."""
    try:
        with Image.open(path) as picture:
            graph = picture.info.get("prompt")
            return prompt_of(json.loads(graph) if isinstance(graph, str) else None), picture.size
    except (OSError, ValueError, SyntaxError, RecursionError, Image.DecompressionBombError):
        return None
