"""How much memory a training holds, now and at most so far."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import torch


def in_use(device: torch.device) -> dict[str, int]:
    """{"now", "peak"} in bytes: of tensors on a GPU, or of the whole process where the CPU computes."""
    gpu: Any = getattr(torch, device.type, None)  # torch.cuda, torch.xpu ...
    if device.type != "cpu" and hasattr(gpu, "max_memory_allocated"):
        return {"now": gpu.memory_allocated(device), "peak": gpu.max_memory_allocated(device)}
    import psutil  # accelerate brings it

    now = psutil.Process().memory_info()
    return {"now": now.rss, "peak": max(now.rss, _most(now))}


def _most(now: object) -> int:
    """The most that this process has ever held."""
    if sys.platform == "linux":
        # Not getrusage: a process that another one has started begins there with that one's.
        found = re.search(r"^VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
        return int(found[1]) * 1024 if found else 0
    if sys.platform == "win32":
        return int(getattr(now, "peak_wset", 0))
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS: bytes
