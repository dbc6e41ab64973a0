"""What work really allocates on the CPU, by the allocator's own records."""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch


def measured_peak(work: Callable[[], object]) -> int:
    """The most bytes that work() has allocated at once, beside what there was before it.

    torch's profiler writes down each allocation and release, those inside an operation too. Nothing of the estimate
    is in it: that one follows tensors without data.
    """
    gc.collect()
    with torch.autograd.profiler.profile(profile_memory=True) as profile:
        work()
    records = [event for event in profile.kineto_results.events() if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(records, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak
