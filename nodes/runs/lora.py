"""A finished run's LoRA: where it is, and onto a model with it."""

from __future__ import annotations

from pathlib import Path

from ...mixgrpo_engine.run_folder import RunFolder
from . import paths, state


def name(folder: RunFolder) -> str:
    """Its name in ComfyUI's LoRA loaders."""
    return paths.lora_name(folder.name)


def file(folder: RunFolder) -> Path:
    """The published file, or the run folder's own if that one was moved away."""
    published = paths.lora_file(folder.name)
    return published if published.exists() else folder.lora


def version(folder: RunFolder) -> tuple:
    """Changes when the LoRA changes, for ComfyUI's cache."""
    path = file(folder)
    return (folder.name, state.state(folder), path.stat().st_mtime_ns if path.exists() else 0)


def require_finished(folder: RunFolder) -> None:
    """Raises ValueError with one sentence when the run has no LoRA yet."""
    now = state.state(folder)
    if now != "finished":
        advice = (
            "put MixGRPO Wait between, or queue again when it has ended"
            if now in state.ACTIVE
            else "queue its training again to finish it"
        )
        raise ValueError(f"Run {folder.name} is {now}, not finished: {advice}.")
    if not file(folder).exists():
        raise ValueError(f"The LoRA of run {folder.name} is gone: it should be {paths.lora_file(folder.name)}.")


def apply(folder: RunFolder, model, strength: float):
    """The model with the run's LoRA as patches, as LoraLoaderModelOnly gives it; the given model stays as it is."""
    import comfy.sd
    import comfy.utils

    require_finished(folder)
    if strength == 0:
        return model
    weights = comfy.utils.load_torch_file(str(file(folder)), safe_load=True)
    return comfy.sd.load_lora_for_models(model, None, weights, strength, 0)[0]
