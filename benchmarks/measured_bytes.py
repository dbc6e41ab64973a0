"""What work really allocates, by the allocator's own records."""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch


def measured_peak(work: Callable[[], object], device: torch.device | None = None) -> int:
    """The most bytes that work() has allocated at once on a device (the CPU when None), beside what there was before.

    On a GPU its allocator counts; on the CPU torch's profiler writes down each allocation and release, those inside an
    operation too. Nothing of the estimate is in it: that one follows tensors without data.
    """
    gc.collect()
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with torch.autograd.profiler.profile(profile_memory=True) as profile:
        work()
    records = [event for event in profile.kineto_results.events() if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(records, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak
