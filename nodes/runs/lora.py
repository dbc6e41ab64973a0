"""A finished run's LoRA: published for ComfyUI's LoRA loaders, and put onto a model."""

from __future__ import annotations

import os
import shutil

from ...mixgrpo_engine.files import replace
from ...mixgrpo_engine.run_folder import RunFolder
from . import paths, state


def name(folder: RunFolder) -> str:
    """Its name in ComfyUI's LoRA loaders."""
    return paths.lora_name(folder.name)


def publish(folder: RunFolder) -> None:
    """Copies the run's LoRA to where ComfyUI's LoRA loaders look."""
    target = paths.lora_file(folder.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.copyfile(folder.lora, temporary)
    replace(temporary, target)


def version(folder: RunFolder) -> tuple:
    """Changes when the LoRA changes, for ComfyUI's cache."""
    path = paths.lora_file(folder.name)
    return (folder.name, state.state(folder), path.stat().st_mtime_ns if path.exists() else 0)


def require_finished(folder: RunFolder) -> None:
    """Makes sure that the run's LoRA is there under its name; one that was deleted is published again.

    Raises ValueError with one sentence when the run has none, or none yet.
    """
    now = state.state(folder)
    if now == state.UNREADABLE:
        raise ValueError(state.damage(folder))
    if now != "finished":
        advice = (
            "put MixGRPO Wait between, or queue again when it has ended"
            if now in state.ACTIVE
            else "queue its training again to finish it"
        )
        raise ValueError(f"Run {folder.name} is {now}, not finished: {advice}.")
    if paths.lora_file(folder.name).exists():
        return
    if not folder.lora.exists():
        raise ValueError(
            f"The LoRA of run {folder.name} is gone, also from its folder ({folder.lora}): "
            "queue its training again with if_exists = restart."
        )
    publish(folder)


def apply(folder: RunFolder, model, strength: float):
    """The model with the run's LoRA as patches, as LoraLoaderModelOnly gives it; the given model stays as it is."""
    import comfy.sd
    import comfy.utils

    require_finished(folder)
    if strength == 0:
        return model
    weights = comfy.utils.load_torch_file(str(paths.lora_file(folder.name)), safe_load=True)
    return comfy.sd.load_lora_for_models(model, None, weights, strength, 0)[0]
