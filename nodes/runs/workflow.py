"""The graph on the canvas that a run was queued from. Scripts queue a prompt alone: they have none."""

from __future__ import annotations

from ...mixgrpo_engine.records.events import finite
from ...mixgrpo_engine.records.files import write_json
from ...mixgrpo_engine.records.run_folder import RunFolder

MAX_ID = 100
PARTS = ("class_type", "inputs", "_meta")


def id_of(extra_pnginfo: object) -> str:
    """extra_pnginfo: what ComfyUI's hidden input of that name holds. "" without a workflow."""
    found = (_workflow(extra_pnginfo) or {}).get("id")
    return found if isinstance(found, str) and len(found) <= MAX_ID else ""


def keep(folder: RunFolder, extra_pnginfo: object, prompt: dict) -> None:
    """Puts the workflow and the API prompt into the run folder, in place of those it was queued with before."""
    # ComfyUI notes in the nodes what has changed.
    queued = {key: {name: node[name] for name in PARTS if name in node} for key, node in prompt.items()}
    write_json(folder.path / "workflow.json", finite({"workflow": _workflow(extra_pnginfo), "prompt": queued}))


def _workflow(extra_pnginfo: object) -> dict | None:
    found = extra_pnginfo.get("workflow") if isinstance(extra_pnginfo, dict) else None
    return found if isinstance(found, dict) else None
