"""A run's LoRAs: the last, the best, and those of single iterations that were asked for.

They are published for ComfyUI's LoRA loaders, and put onto a model.
"""

from __future__ import annotations

import logging
import math
import os
import re
import shutil
import time
from pathlib import Path

from ...mixgrpo_engine.records.files import remove, written_beside
from ...mixgrpo_engine.records.run_folder import RunFolder
from ..comfy_types import Model
from ..model import lora_names
from . import liveness, paths, stored

CHECKPOINT_LORA = "lora.safetensors"
FRESH_SECONDS = 2.0
"""A folder that has just changed may change again at the same time stamp."""

_listed: tuple[tuple, dict[str, tuple[str, ...]]] | None = None


def published() -> dict[str, tuple[str, ...]]:
    """Run id -> the file names of its published LoRAs: last, best, those of iterations from the newest on."""
    global _listed
    place = paths.lora_folder()
    try:
        changed = place.stat().st_mtime_ns
    except OSError:
        return {}
    key = (str(place), changed)
    if _listed is None or _listed[0] != key:
        found = [re.fullmatch(r"(.+?)(-best|-\d{6,7})?\.safetensors", name) for name in os.listdir(place)]
        by_run: dict[str, list[tuple[float, str]]] = {}
        for name in filter(None, found):
            order = {None: -math.inf, "-best": -1e9}.get(name[2])
            by_run.setdefault(name[1], []).append((order if order is not None else -int(name[2][1:]), name[0]))
        names = {run_id: tuple(each[-1] for each in sorted(files)) for run_id, files in by_run.items()}
        _listed = (key if time.time() - changed / 1e9 > FRESH_SECONDS else (), names)
    return _listed[1]


def newest_checkpoint(folder: RunFolder) -> Path | None:
    """The checkpoint that the run would go on from."""
    try:
        with os.scandir(folder.checkpoints) as entries:  # others' files and links among them are no checkpoints
            names = [each.name for each in entries if each.is_dir(follow_symlinks=False)]
        names = [name for name in names if name.isascii() and name.isdigit()]
    except OSError:
        return None
    return folder.checkpoints / max(names, key=int) if names else None


def checkpoint_lora(folder: RunFolder) -> Path | None:
    """The LoRA in it; checkpoints of older versions have none."""
    newest = newest_checkpoint(folder)
    lora = newest / CHECKPOINT_LORA if newest else None
    return lora if lora and lora.is_file() else None


def name(folder: RunFolder, which: str = paths.LAST) -> str:
    """Its name in ComfyUI's LoRA loaders."""
    return paths.lora_name(folder.name, which)


def source(folder: RunFolder, which: str) -> Path:
    """The LoRA in the run's own folder; one of an iteration may lie in its checkpoint only."""
    if which in paths.WHICH:
        return folder.best_lora if which == paths.BEST else folder.lora
    saved = folder.step_lora(int(which))
    return saved if saved.exists() else folder.checkpoints / f"{int(which):06d}" / CHECKPOINT_LORA


def publish(folder: RunFolder, which: str = paths.LAST) -> None:
    """Copies a LoRA of the run to where ComfyUI's LoRA loaders look."""
    target = paths.lora_file(folder.name, which)
    target.parent.mkdir(parents=True, exist_ok=True)
    with written_beside(target) as temporary:
        shutil.copyfile(source(folder, which), temporary)


def publish_best(folder: RunFolder, finished: bool = False) -> dict:
    """The best LoRA, if there is one; status fields.

    finished: False for a run that hasn't come to its end: there only what is better than before the training, and
    beside no last LoRA, which the run has from when it was finished before.
    """
    best = stored.status(folder).get("best")
    if not best or not folder.best_lora.exists():
        return {}
    if not finished and (folder.lora.exists() or not best.get("iteration")):
        return {}
    publish(folder, paths.BEST)
    return {"best": {**best, "lora": name(folder, paths.BEST)}}


def remove_unfinished(folder: RunFolder) -> None:
    """What a killed worker was publishing."""
    pattern = re.compile(rf"\.{folder.name}(-best|-\d+)?\.safetensors\.[\d-]+\.tmp")
    for path in paths.lora_folder().glob(".*.tmp"):
        if pattern.fullmatch(path.name):
            remove(path)


def version(folder: RunFolder, which: str = paths.LAST) -> tuple:
    """Changes when the LoRA changes, for ComfyUI's cache."""
    path = paths.lora_file(folder.name, which)
    return (path.name, liveness.state_of(folder), path.stat().st_mtime_ns if path.exists() else 0)


def require_finished(folder: RunFolder, which: str = paths.LAST) -> None:
    """Makes sure that the run's LoRA is there under its name; one that was deleted is published again.

    A run that was finished, went on to more iterations and was stopped on the way still has that LoRA.
    Raises ValueError with one sentence when the run has none, or none yet.
    """
    if which not in paths.WHICH:
        raise ValueError(f"which is '{which}': choose {' or '.join(paths.WHICH)}.")
    now = liveness.state_of(folder)
    if now == liveness.UNREADABLE:
        raise ValueError(liveness.damage(folder))
    # A run that never was finished has no last LoRA; both places, since a deleted run may have left one of its name.
    was_finished = now not in liveness.ACTIVE and folder.lora.exists() and paths.lora_file(folder.name).exists()
    if now != "finished" and not was_finished:
        advice = (
            "put MixGRPO Wait between, or queue again when it has ended"
            if now in liveness.ACTIVE
            else "queue its training again to finish it"
        )
        raise ValueError(f"Run {folder.name} is {now}, not finished: {advice}.")
    if paths.lora_file(folder.name, which).exists():
        return
    if which == paths.BEST and not stored.status(folder).get("best"):
        raise ValueError(
            f"Run {folder.name} has no best LoRA, because its evaluate_every was 0: set which to last, or queue its "
            "training again with evaluate_every above 0 and if_exists = restart."
        )
    if not source(folder, which).exists():
        raise ValueError(
            f"The {which} LoRA of run {folder.name} is gone, also from its folder ({source(folder, which)}): "
            "queue its training again with if_exists = restart."
        )
    publish(folder, which)


def apply(folder: RunFolder, model: Model, strength: float, which: str = paths.LAST) -> Model:
    """The model with the run's LoRA as patches, as LoraLoaderModelOnly gives it; the given model stays as it is.

    Raises ValueError with one sentence unless every layer of the LoRA is one of the model's: the loader only logs it.
    """
    import comfy.sd
    import comfy.utils

    require_finished(folder, which)
    now = liveness.state_of(folder)
    if now != "finished":
        logging.warning("MixGRPO: run %s is %s: its LoRA is the one that it had finished before.", folder.name, now)
    if strength == 0:
        return model
    weights = comfy.utils.load_torch_file(str(paths.lora_file(folder.name, which)), safe_load=True)
    lora_names.read(model.model, weights, f"run {folder.name}'s LoRA", "connect the model that was trained.")
    return comfy.sd.load_lora_for_models(model, None, weights, strength, 0)[0]
