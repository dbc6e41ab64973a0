"""A run's curves, images and settings in experiment trackers, through accelerate's; all of them offline by default."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
from PIL import Image

from .events import Evaluation, Event, Iteration, Notice, Sample, finite
from .readable import words_of
from .run_folder import RunFolder

PROJECT = "mixgrpo"
TRACKERS = ("tensorboard", "wandb", "trackio")
LAST_WORDS = ("done", "cancelled", "failed")
FIGURES = ("reward_std", "loss", "grad_norm", "ratio_deviation", "clip_fraction", "kl", "learning_rate", "updates")


def checked(names: Sequence[str], where: str) -> tuple[str, ...]:
    """The names, each once. Raises ValueError with one sentence for one that isn't known; where: what names it."""
    for name in names:
        if name not in TRACKERS:
            raise ValueError(f"{where} names the tracker '{name[:40]}': choose {', '.join(TRACKERS)}.")
    return tuple(dict.fromkeys(names))


class Trackers:
    """Tells events on. A tracker that is missing or breaks costs a notice and itself, never the run."""

    def __init__(
        self, names: Sequence[str], folder: RunFolder, settings: Mapping, emit: Callable[[Event], None]
    ) -> None:
        """settings: of the run, in groups. emit gets the notices. They start with the first figures."""
        self.names, self.folder, self.settings, self.emit = tuple(names), folder, settings, emit
        self._running: dict[str, Any] | None = None  # name -> accelerate's tracker

    def __call__(self, event: Event) -> None:
        """For whoever emits events, after each; in the main process only."""
        if isinstance(event, (Iteration, Evaluation, Sample)):
            for name, tracker in self._started(event.iteration):
                self._do(name, event.iteration, partial(self._tell, tracker, event))
        elif event.type in LAST_WORDS:
            for name, tracker in list((self._running or {}).items()):
                self._do(name, 0, tracker.finish)
            self._running = None

    def _started(self, step: int) -> list[tuple[str, Any]]:
        if self._running is None:
            self._running = {}
            for name in self.names:
                self._do(name, step, partial(self._start, name, step))
        return list(self._running.items())

    def _start(self, name: str, step: int) -> None:
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        run, place = self.folder.name, self.folder.path / name
        place.mkdir(exist_ok=True)
        options: dict[str, dict] = {
            "tensorboard": {"logging_dir": place, "purge_step": step},  # a resumed run repeats some steps
            "wandb": {
                "name": run,
                "dir": place,
                # Only the owner's own environment sends anything away.
                "mode": os.environ.get("WANDB_MODE", "offline"),
            },
            "trackio": {"name": run, "resume": "allow"},
        }
        tracker = LOGGER_TYPE_TO_CLASS[name](run if name == "tensorboard" else PROJECT, **options[name])
        if hasattr(tracker, "start"):  # older versions of accelerate start by themselves
            tracker.start()
        assert self._running is not None
        self._running[name] = tracker
        tracker.store_init_configuration(flat(self.settings))

    def _tell(self, tracker: Any, event: Iteration | Evaluation | Sample) -> None:
        step = event.iteration
        if not isinstance(event, Sample):
            tracker.log(figures(event), step=step)
            return
        with Image.open(self.folder.path / event.path) as grid:
            pixels = np.asarray(grid.convert("RGB"))
        if tracker.name == "trackio":  # accelerate's knows no images
            tracker.log({"samples": import_module("trackio").Image(pixels)}, step=step)
        else:
            layout = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
            tracker.log_images({"samples": pixels[None]}, step=step, **layout)

    def _do(self, name: str, step: int, work: Callable[[], object]) -> None:
        try:
            work()
        except Exception as error:  # a foreign library's, of any kind: it costs the tracker, never the run
            if self._running:
                self._running.pop(name, None)
            missing = isinstance(error, ImportError)
            why = f"isn't installed: pip install {name}" if missing else f"broke ({words_of(error).splitlines()[0]})"
            self.emit(Notice(step, f"The tracker {name} {why}. The run goes on without it."))


def figures(event: Iteration | Evaluation) -> dict[str, float]:
    """What an event has for curves, by name; what is no number is left out."""
    return {name: value for name, value in _figures(event) if finite(value) is not None}


def _figures(event: Iteration | Evaluation) -> Iterator[tuple[str, Any]]:
    if isinstance(event, Evaluation):
        yield from (("held_out/" + name, value) for name, value in event.reward.items())
        yield from (("strict/" + name, value) for name, value in event.strict.items())
        return
    yield "train/window_start", event.window[0]
    yield from (("train/" + name, getattr(event, name)) for name in FIGURES)
    yield from (("reward/" + name, value) for name, value in event.reward.items())
    yield from (("seconds/" + name, value) for name, value in event.seconds.items())
    yield from (("memory/" + name, value) for name, value in event.memory.items())


def flat(settings: Mapping, prefix: str = "") -> dict[str, bool | int | float | str]:
    """Groups of settings as one: {"rollout.steps": 25, ...}."""
    found: dict[str, bool | int | float | str] = {}
    for name, value in settings.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found
