"""Which actions would work on a run now, as far as its files tell."""

from __future__ import annotations

from typing import Any

from ...mixgrpo_engine.records.run_folder import RunFolder
from . import launch, liveness, packs, published_lora, signature, stored, stored_prompts


def facts(folder: RunFolder, made: dict) -> dict[str, Any]:
    """What a run's summary and its actions need of its job, which may be large."""
    config = made.get("config")
    run, optimizer = ((config.get(name) if isinstance(config, dict) else None) for name in ("run", "optimizer"))
    iterations = run.get("iterations") if isinstance(run, dict) else None
    return {
        "name": made.get("name", folder.name),
        "created": made["created"] if stored.is_number(made.get("created")) else None,
        "node_id": made.get("node_id") if isinstance(made.get("node_id"), str) else "",
        "held_out_prompts": stored_prompts.counts(made)["held_out"],
        "iterations": iterations if stored.is_number(iterations) else None,
        "constant_rate": isinstance(optimizer, dict) and optimizer.get("schedule") == "constant",
        "can_start": _can_start(folder, made),
    }


def possible(folder: RunFolder, state: str, cancelling: bool, made: dict[str, Any]) -> list[str]:
    """made: facts(), or {} where the job can't be read."""
    at_work, can_start = state in liveness.ACTIVE, made.get("can_start", False)
    ended = state not in (*liveness.ACTIVE, liveness.UNREADABLE) and not cancelling
    saved = ended and published_lora.newest_checkpoint(folder) is not None
    would = {
        "cancel": at_work,
        "resume": ended and state != "finished" and can_start,
        "save": (state == "running" and not cancelling)
        or (ended and published_lora.checkpoint_lora(folder) is not None),
        "continue": saved and can_start and made.get("constant_rate", False),
        "restart": can_start,
        "delete": not at_work and not cancelling and not is_held(folder),
    }
    return [name for name, works in would.items() if works]


def is_held(folder: RunFolder) -> bool:
    """Whether a process has the run, or it can't be told."""
    try:
        return liveness.is_alive(folder)
    except OSError:  # its lock can't be tried
        return True


def _can_start(folder: RunFolder, made: dict) -> bool:
    try:
        signature.require(made, folder.name, signature.install_key())
        packs.of_graph(made["graph"])
        launch.require_devices(made)
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError):
        return False  # a stranger's job, or one that needs what isn't here any more
    return True
