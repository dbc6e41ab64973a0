"""Single images on the disk: of held-out prompts, within a budget, and the newest training group."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from PIL import Image
from torch import Tensor

from .events import finite
from .files import remove, write_json
from .run_folder import RunFolder

SIDE, GROUP_SIDE = 1024, 512  # pixels of the longer side; larger images are made smaller
QUALITY = 90  # of webp
GROUP_SECONDS, GROUP_SHARE = 5.0, 0.01  # least seconds between two groups, and most of the time spent on them
MB = 10**6
GRIDS_MB = 100
GRID = re.compile(r"iteration_(\d+)\.png")


def save(
    images: Sequence[Tensor] | Tensor, folder: Path, prefix: str = "", side: int = SIDE, effort: int = 2
) -> list[Path]:
    """images: uint8 (height, width, 3) each. Files 00.webp, 01.webp ...; effort: of the encoder, 0 to 6."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{prefix}{number:02d}.webp" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        picture = Image.fromarray(image.numpy())
        picture.thumbnail((side, side))
        picture.save(path, quality=QUALITY, method=effort)
    return paths


def thin_out(samples: Path, budget: int) -> None:
    """Removes single images of iterations, each time where the gap that this leaves is smallest, until they fit.

    budget: bytes. Those of the first and of the newest iteration stay. Grids have a budget of their own, GRIDS_MB.
    """
    singles = {int(path.name): path for path in samples.glob("[0-9]*") if path.name.isdigit() and path.is_dir()}
    _thin_out(singles, budget)
    grids = {int(found[1]): path for path in samples.glob("*.png") if (found := GRID.fullmatch(path.name))}
    _thin_out(grids, GRIDS_MB * MB)


def _thin_out(by_iteration: Mapping[int, Path], budget: int) -> None:
    """Of files, or of folders of files."""
    numbers = sorted(by_iteration)
    sizes = {
        number: sum(file.stat().st_size for file in (path.iterdir() if path.is_dir() else [path]))
        for number, path in by_iteration.items()
    }
    total = sum(sizes.values())
    while total > budget and len(numbers) > 2:
        place = min(range(1, len(numbers) - 1), key=lambda place: numbers[place + 1] - numbers[place - 1])
        gone = numbers.pop(place)
        total -= sizes[gone]
        with suppress(OSError):  # somebody looks at it: the next time
            remove(by_iteration[gone])


class NewestGroup:
    """samples/group: the images of one prompt of the newest iteration, with what GRPO makes of their rewards."""

    def __init__(self, folder: RunFolder) -> None:
        self._run, self._folder = folder.path, folder.samples / "group"
        self._due, self._started = -math.inf, time.monotonic()
        self._kept: set[Path] = set()

    def due(self) -> bool:
        self._started = time.monotonic()  # what is done from now on counts as spent on it
        return self._started >= self._due

    def write(
        self,
        iteration: int,
        prompt: str,
        window: range,
        images: Tensor,
        rewards: Mapping[str, Sequence[float]],
        advantages: Sequence[float],
    ) -> None:
        """images: uint8 (group, height, width, 3). The files of the group before stay for who is looking at them."""
        paths = save(images, self._folder, f"{iteration:06d}_", GROUP_SIDE, effort=0)
        about = [
            {
                "file": path.relative_to(self._run).as_posix(),
                "rewards": {name: values[number] for name, values in rewards.items()},
                "advantage": advantages[number],
            }
            for number, path in enumerate(paths)
        ]
        told = {"iteration": iteration, "prompt": prompt, "window": [window.start, window.stop], "images": about}
        write_json(self._folder / "group.json", finite(told))
        for path in set(self._folder.glob("*.webp")) - self._kept - set(paths):
            with suppress(OSError):
                remove(path)
        self._kept = set(paths)
        now = time.monotonic()
        self._due = now + max(GROUP_SECONDS, (now - self._started) / GROUP_SHARE)
