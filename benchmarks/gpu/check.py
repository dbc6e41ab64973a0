"""A check is made of sections, each by itself, inside a budget of seconds."""

from __future__ import annotations

import contextlib
import gc
import itertools
import signal
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

LEAST = 0.6  # of a section's seconds: with less it isn't begun
LONGEST = 3  # times its seconds: then it is ended


@dataclass(frozen=True)
class Section:
    """Something that is looked at: run(check) gives its figures, lists of dicts being tables."""

    name: str
    seconds: float  # that it should take on an H100
    run: Callable[[Check], dict]

    @property
    def about(self) -> str:
        return (self.run.__doc__ or "").strip()


def section(seconds: float) -> Callable[[Callable[[Check], dict]], Section]:
    """Makes a Section of a function, by whose name and docstring it goes."""
    return lambda function: Section(function.__name__, seconds, function)


class TooSlow(BaseException):
    """A section's time is up. No Exception: nothing in between shall take it for a failure of its own."""


class Check:
    """Where it runs, at which sizes, and how much time is left."""

    def __init__(self, device: torch.device, small: bool, budget: float):
        """small: models of two layers and small images; budget: seconds for everything."""
        self.device, self.small, self.budget = device, small, budget
        self._started = time.monotonic()
        self._folder = tempfile.TemporaryDirectory(prefix="mixgrpo-gpu-")
        self._numbers = itertools.count()

    def left(self) -> float:
        """Seconds of the budget."""
        return self.budget - (time.monotonic() - self._started)

    def say(self, words: str) -> None:
        print(f"[{time.monotonic() - self._started:6.1f} s] {words}", flush=True)

    def folder(self) -> Path:
        """A new one, which is gone with the process."""
        return Path(self._folder.name) / str(next(self._numbers))

    def wait(self) -> None:
        """Until the device has done its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, work: Callable[[], object]) -> float:
        """Median seconds of work() of three times, after a first time that doesn't count."""
        work()
        found = []
        for _ in range(1 if self.small else 3):
            self.wait()
            started = time.perf_counter()
            work()
            self.wait()
            found.append(time.perf_counter() - started)
        return statistics.median(found)

    def run(self, sections: Sequence[Section], save: Callable[[dict[str, dict]], None]) -> dict[str, dict]:
        """What came of each section, by name; save(that) is called after each."""
        done: dict[str, dict] = {}
        for each in sections:
            done[each.name] = {"about": each.about, **self._one(each)}
            save(done)
        return done

    def _one(self, each: Section) -> dict:
        left = self.left()
        if left < (0 if self.small else LEAST * each.seconds):
            self.say(f"{each.name}: left out")
            return {"left_out": f"{max(0, left):.0f} s of the budget are left, and it takes about {each.seconds:g} s."}
        self.say(each.name)
        started = time.monotonic()
        limit = left if self.small else min(left, LONGEST * each.seconds)
        try:
            with time_limit(limit):
                found = {"figures": each.run(self)}
        except TooSlow:
            found = {"failed": f"It was ended after {limit:.0f} s."}
        except Exception as error:  # whatever a section raises is a result of the check, and costs no other section
            found = {"failed": f"{type(error).__name__}: {error}", "where": _places(error)}
        self._free()
        if "failed" in found:
            self.say(f"{each.name} FAILED: {found['failed']}")
        return {"seconds": time.monotonic() - started, **found}

    def _free(self) -> None:
        import comfy.model_management

        comfy.model_management.unload_all_models()
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises TooSlow in it after so many seconds, between two lines of Python; never where the system has no timer."""
    if sys.platform == "win32":
        yield
        return

    def end(_signal: int, _frame: object) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, max(0.001, seconds))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _places(error: BaseException) -> list[str]:
    """The last lines of code that an error came through, the innermost last."""
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    return [f"{frame.filename}:{frame.lineno}" for frame in frames]
