"""A LoRA of a run as it is now: its worker makes one, or its newest checkpoint holds it."""

from __future__ import annotations

from ...mixgrpo_engine.records.run_folder import RunFolder
from . import liveness, published_lora, submit


def save(folder: RunFolder) -> None:
    """Raises ValueError with one sentence when there is nothing to save."""
    with submit.lock():  # nobody starts or removes it meanwhile
        _save(folder)


def _save(folder: RunFolder) -> None:
    now = liveness.read_state(folder)
    if liveness.is_cancelling(folder):
        raise ValueError(f"Run {folder.name} is stopping: save its LoRA when it has ended.")
    if now == "running":
        folder.save_file.touch()
        return
    if now in liveness.ACTIVE:  # the end of the first iteration to come isn't what anybody means
        raise ValueError(f"Run {folder.name} isn't at work yet: save its LoRA when it is.")
    lora = published_lora.checkpoint_lora(folder)
    if lora is None:
        kept = published_lora.newest_checkpoint(folder)
        why = "its checkpoint is of an older version and holds none" if kept else "it has no checkpoint"
        raise ValueError(f"Run {folder.name} has no LoRA to save, because {why}: resume it first.")
    published_lora.publish(folder, str(int(lora.parent.name)))
    if best := published_lora.publish_best(folder):
        folder.set_status(**best)
