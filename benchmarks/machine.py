"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch


def describe() -> dict[str, str | int]:
    """The processor, how much of it was used, and the versions that matter. ComfyUI must have been imported."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "comfyui": _comfyui_version(),
        "python": platform.python_version(),
        "system": platform.system(),
    }


def sentence(machine: dict) -> str:
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads, {machine['system']}, "
        f"torch {machine['torch']}, ComfyUI {machine['comfyui']}, Python {machine['python']}"
    )


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _comfyui_version() -> str:
    try:
        from comfyui_version import __version__
    except ImportError:
        return "unknown"
    return __version__
