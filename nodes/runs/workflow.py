"""The graph on the canvas that a run was queued from. Scripts queue a prompt alone: they have none."""

from __future__ import annotations

import contextlib
import shutil
import time
from typing import Any

from ...mixgrpo_engine.records.events import finite
from ...mixgrpo_engine.records.files import read_json, write_json
from ...mixgrpo_engine.records.run_folder import RunFolder
from . import sweep as sweep_of

MAX_ID = 100
NOBODYS = "00000000-0000-0000-0000-000000000000"  # of a graph that was never given one
QUEUED = "queued.json"
PARTS = ("class_type", "inputs", "_meta")


def id_of(extra_pnginfo: object) -> str:
    """extra_pnginfo: what ComfyUI's hidden input of that name holds. "" without a workflow."""
    found = (_workflow(extra_pnginfo) or {}).get("id")
    return found if isinstance(found, str) and len(found) <= MAX_ID and found != NOBODYS else ""


def keep(
    folder: RunFolder,
    extra_pnginfo: object,
    prompt: dict,
    node_id: str,
    waits: bool,
    sweep: dict | None = None,
    trains: bool = True,
) -> None:
    """Puts the workflow and the API prompt into the run folder, in place of those it was queued with before.

    And beside them, small, which node of which workflow that was: there the browser shows the run again. sweep: which
    runs it was queued with (sweep.py). trains: False where the run only went by, finished or at work already: the
    graph's other nodes may have changed since, so the workflow that it was trained from stays.
    """
    # ComfyUI notes in the nodes what has changed.
    queued = {key: {name: node[name] for name in PARTS if name in node} for key, node in prompt.items()}
    path = folder.path / "workflow.json"
    if trains or not path.exists():
        write_json(path, finite({"workflow": _workflow(extra_pnginfo), "prompt": queued}))
    told = {
        "workflow_id": id_of(extra_pnginfo), "node_id": node_id, "waits": waits, "time": time.time(), "sweep": sweep,
    }  # fmt: skip
    write_json(folder.path / QUEUED, told)


def repeat(folder: RunFolder, before: RunFolder) -> None:
    """Puts what `before` was queued from into the folder of the run that does the same again, by itself.

    So the node that queued it shows it. No prompt waits for it, and it belongs to no sweep.
    """
    with contextlib.suppress(FileNotFoundError):
        shutil.copyfile(before.path / "workflow.json", folder.path / "workflow.json")
    if told := queued(before):
        write_json(folder.path / QUEUED, {**told, "waits": False, "time": time.time(), "sweep": None})


def queued(folder: RunFolder) -> dict[str, Any]:
    """{"workflow_id", "node_id", "waits", "time", "sweep"} of the last time, as far as they are told."""
    try:
        told = read_json(folder.path / QUEUED)
    except (OSError, ValueError, RecursionError):
        return {}
    kinds = {"workflow_id": str, "node_id": str, "waits": bool, "time": float}
    found = {name: told[name] for name, kind in kinds.items() if isinstance(told.get(name), kind)}
    return {**found, "sweep": sweep_of.checked(told.get("sweep"))}


def _workflow(extra_pnginfo: object) -> dict | None:
    found = extra_pnginfo.get("workflow") if isinstance(extra_pnginfo, dict) else None
    return found if isinstance(found, dict) else None
