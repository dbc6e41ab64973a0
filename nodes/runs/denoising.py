"""Where a run's window lies on its noise levels, iteration by iteration: exactly what its rollouts take."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import Any

from ...mixgrpo_engine.config import TrainConfig
from ...mixgrpo_engine.window import SlidingWindow

MOST = 2000  # moves of the window


def told(event: dict, config: dict) -> dict[str, Any]:
    """What GET .../schedule answers. event: the run's `schedule`; config: its settings.

    Raises ValueError or TypeError for what no run of ours has written.
    """
    settings = TrainConfig.from_dict(config)
    settings.validate()
    sigmas, ratio = event["sigmas"], event["flash_ratio"]
    if len(sigmas) != settings.rollout.steps + 1:
        raise ValueError(f"the event schedule holds {len(sigmas)} noise levels for {settings.rollout.steps} steps")
    moves = window_moves(settings.sliding_window(), settings.run.iterations)
    places = list(dict.fromkeys(place for _, place in moves))
    return {
        "sigmas": sigmas,
        "flash_ratio": ratio,
        "random": settings.loss.surrogate != "nft",  # else the window holds levels to noise images to
        "windows": [
            {"start": place.start, "stop": place.stop, "sigmas": _rollout_sigmas(sigmas, place, ratio, event["shift"])}
            for place in places
        ],
        "starts": [[iteration, places.index(place)] for iteration, place in moves],
    }


def window_moves(window: SlidingWindow, iterations: int) -> list[tuple[int, range]]:
    """[(iteration from which on it lies there, place)], at most MOST."""
    moves: list[tuple[int, range]] = []
    iteration = 0
    while iteration < iterations and len(moves) < MOST:
        place = window.at(iteration)
        if not moves or moves[-1][1] != place:
            moves.append((iteration, place))
        at_its_end = place.start == window.last_start and not window.wrap
        if window.strategy == "frozen" or window.last_start == 0 or (at_its_end and window.strategy != "random"):
            break  # it stays there
        if window.strategy == "random":
            iteration += 1
            continue
        # Nowhere does it stay longer than `interval`, nor come back within that time.
        later = range(iteration + 1, iteration + window.interval + 1)
        iteration = later[bisect_left(later, True, key=_elsewhere(window, place))]
    return moves


def _elsewhere(window: SlidingWindow, place: range) -> Callable[[int], bool]:
    return lambda iteration: window.at(iteration) != place


def _rollout_sigmas(sigmas: list[float], place: range, ratio: float, shift: float) -> list[float]:
    if ratio >= 1:
        return sigmas
    import torch

    from ...mixgrpo_engine.schedule import flash_sigmas

    return flash_sigmas(torch.tensor(sigmas, dtype=torch.float32), place, ratio, shift).tolist()
