"""The runs on the disk: which there are, and what is told of each to browsers and scripts.

A summary is made again only when the run's files have changed, or while something is going on that no file tells.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...mixgrpo_engine.records.events import finite
from ...mixgrpo_engine.records.run_folder import RunFolder
from . import about, actions, gallery, kept_copy, launch, liveness, packs, paths, published_lora, stored, workflow

WATCHED = ("job.json", "status.json", "launch.json", "about.json", workflow.QUEUED, "checkpoints", "samples", "")
"""Whose change may change a summary; "": the run folder's own entries."""

KEPT = "summaries.bin"
"""Those of runs that have ended, for the next server (kept_copy.py)."""

SETTLED_SECONDS = 30.0
"""After its last word a run's files alone tell all, once no process has it any more."""

Signature = tuple[tuple[int, int, int] | None, ...]


@dataclass
class _Known:
    """What was made of a run's files. made_of: what they were then; None: to be made again in any case."""

    path: str
    made_of: tuple[Signature, tuple[str, ...]] | None = None
    summary: dict[str, Any] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    job_signature: tuple | None = None
    job: dict[str, Any] = field(default_factory=dict)  # facts of job.json, which may be large
    is_sound: bool = True  # no file that is there was left out
    is_kept: bool = False  # the next server finds the summary as it is

    @functools.cached_property
    def folder(self) -> RunFolder:
        return RunFolder(self.path)


_known: dict[str, _Known] = {}
_taken_from: set[str] = set()
_taking = threading.Lock()


def summaries() -> list[dict]:
    """Of all runs, newest first."""
    return [each for _, _, each in all_runs()]


def all_runs() -> Iterator[tuple[str, int, dict]]:
    """Path, the folder's time stamp and, made after it, the summary of all runs, newest first, one after another."""
    loras = published_lora.published()
    for known, signature in _on_disk():
        folder = signature[WATCHED.index("")]
        yield known.path, folder[0] if folder else 0, _summary(known, signature, loras)


def page(
    limit: int | None, offset: int, query: str, states: set[str], workflow_id: str = "", sweep_id: str = ""
) -> dict[str, Any]:
    """What GET /mixgrpo/runs answers. query: a part of id, name or note; states: empty for all of them.

    workflow_id: only the runs that were queued from it; sweep_id: only those of this sweep.
    """
    every = summaries()
    wanted = query.casefold()
    found = [
        each
        for each in every
        if (not states or each["state"] in states)
        and (not workflow_id or each.get("workflow_id") == workflow_id)
        and (not sweep_id or (each.get("sweep") or {}).get("id") == sweep_id)
        and (not wanted or any(wanted in each[name].casefold() for name in ("run_id", "name", "note")))
    ]
    return {
        "runs": found[offset:] if limit is None else found[offset : offset + limit],
        "total": len(found),
        "counts": Counter(each["state"] for each in every),
    }


def find(run_id: str) -> RunFolder | None:
    """The run of this id, or None; also None for what can't be an id."""
    if not isinstance(run_id, str) or not paths.ID.fullmatch(run_id):
        return None
    folder = paths.folder_of(run_id)
    return folder if folder.job.exists() else None


def sweep_of(folder: RunFolder) -> list[RunFolder]:
    """All runs of the sweep that a run belongs to, in their order; the run alone where it belongs to none."""
    mine = summary(folder).get("sweep")
    if not mine:
        return [folder]
    found = [each for each in summaries() if (each.get("sweep") or {}).get("id") == mine["id"]]
    return [RunFolder(each["folder"]) for each in sorted(found, key=lambda each: each["sweep"]["position"])]


def summary(folder: RunFolder) -> dict:
    """A run in JSON: id, name, state, progress, rewards, and where its files are; it always answers.

    The dictionary is shared: whoever wants to change it makes a copy.
    """
    path = str(folder.path)
    return _summary(_known.setdefault(path, _Known(path)), _signature(path), published_lora.published())


def keep() -> None:
    """Writes the summaries that hold as long as no file changes, so that the next server needn't make them again."""
    if not any(known.made_of and known.is_sound and not known.is_kept for known in list(_known.values())):
        return
    settled = [known for known, _ in _on_disk() if known.made_of and known.is_sound]
    kept = {}
    for known in settled:
        with known.lock:
            if known.made_of:
                kept[known.path], known.is_kept = [*known.made_of, known.summary], True
    if not kept_copy.write(paths.runs_directory() / KEPT, json.dumps([_circumstances(), kept]).encode()):
        for known in settled:
            known.is_kept = False


def _take_kept(root: str) -> None:
    """What keep() has written, once: a moment instead of a second for a thousand runs."""
    with _taking:
        if root in _taken_from:
            return
        _taken_from.add(root)
        for unfinished in Path(root).glob(f".{KEPT}.*"):  # a killed server's
            with contextlib.suppress(OSError):
                unfinished.unlink()
        content = kept_copy.read(Path(root, KEPT))
        told, kept = json.loads(content) if content else (None, {})
        if told != _circumstances():
            return
        for path, ((*signature,), loras, summary) in kept.items():
            made_of = tuple(each and tuple(each) for each in signature), tuple(loras)
            _known.setdefault(path, _Known(path, made_of, summary, is_kept=True))


def _circumstances() -> list:
    """What summaries tell beside their runs' files: what could be started here."""
    return [packs.node_types(), *launch.devices()]


def _on_disk() -> list[tuple[_Known, Signature]]:
    root = str(paths.runs_directory())
    _take_kept(root)
    try:
        with os.scandir(root) as entries:
            found = [entry.path for entry in entries if paths.ID.fullmatch(entry.name)]
    except FileNotFoundError:
        return []
    runs = []
    for path in found:
        signature = _signature(path)
        if signature[0] is not None:
            known = _known.get(path) or _known.setdefault(path, _Known(path))
            runs.append((signature[0][0], path, known, signature))
    if len(_known) > 2 * len(runs) + 100:
        for gone in _known.keys() - set(found):
            _known.pop(gone, None)
    runs.sort(key=lambda run: run[:2], reverse=True)
    return [run[2:] for run in runs]


def _signature(path: str) -> Signature:
    return tuple(_stat(f"{path}/{name}") for name in WATCHED)


def _stat(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
        return found.st_mtime_ns, found.st_size, found.st_ino
    except OSError:
        return None


def _summary(known: _Known, signature: Signature, published: dict[str, tuple[str, ...]]) -> dict:
    loras = published.get(os.path.basename(known.path), ())
    if known.made_of == (signature, loras):
        return known.summary
    with known.lock:  # whoever comes second finds it made
        if known.made_of != (signature, loras):
            told = _told(known, signature, loras)
            age = time.time() - (told.get("updated") or 0.0)
            settled = told["state"] not in liveness.ACTIVE and not told["cancelling"] and age > SETTLED_SECONDS
            # A process that is slow to end keeps it from being deleted, and no file tells of its end.
            settled = settled and "delete" in told["actions"]
            settled = settled and not (told["state"] == "dead" and told["message"])  # the disk's, which may change
            known.summary, known.made_of = told, (signature, loras) if settled else None
            known.is_kept = False
        return known.summary


def _told(known: _Known, signature: Signature, loras: tuple[str, ...]) -> dict:
    folder = known.folder
    is_called, was_queued = (signature[WATCHED.index(name)] is not None for name in ("about.json", workflow.QUEUED))
    called = about.read(folder) if is_called else {}
    queued = workflow.queued(folder) if was_queued else {}
    known.is_sound = bool(called) == is_called and bool(queued) == was_queued
    fixed = {
        "run_id": folder.name,
        "folder": str(folder.path),
        "log": str(folder.log),
        "note": called.get("note", ""),
    }
    try:
        told, made = stored.status(folder), _job(known, signature[0])
        state = liveness.read_state(folder) if told["state"] in liveness.ACTIVE else told["state"]
        cancelling = liveness.is_cancelling(folder)
        return finite(
            {
                "sparkline": None,
                "held_out": None,
                "memory": None,
                "images_per_second": None,
                **told,
                **fixed,
                "name": called.get("name") or made["name"],
                "created": made["created"],
                "workflow_id": queued.get("workflow_id", ""),
                "queued": queued.get("time"),
                "detached": queued.get("waits") is False,
                "sweep": queued.get("sweep"),
                # status.json's is the node that failed.
                "node_id": told.get("node_id") or made["node_id"],
                "train_node_id": queued.get("node_id") or made["node_id"],
                "held_out_prompts": made["held_out_prompts"],
                "iterations": made["iterations"] or told.get("iterations"),
                "state": state,
                "message": _message(folder, state, told),
                "cancelling": cancelling,
                "images": gallery.grid_and_curve(folder, told.get("sample")),
                "thumbnail": gallery.thumbnail(folder, told.get("sample")),
                "files": files(folder, loras),
                "actions": actions.possible(folder, state, cancelling, made),
            }
        )
    except (ValueError, OSError, RecursionError) as error:
        known.is_sound = False
        nothing: dict[str, Any] = {"created": None, "cancelling": False, "images": [], "files": [], "thumbnail": None}
        return {
            **fixed,
            **nothing,
            "name": called.get("name") or folder.name,
            "state": liveness.UNREADABLE,
            "message": str(error),
            "actions": actions.possible(folder, liveness.UNREADABLE, False, {}),
        }


def _message(folder: RunFolder, state: str, told: dict) -> str | None:
    if state == "dead" and (told.get("stage") or liveness.unsaid(folder)):
        return liveness.unsaid(folder)  # not what its stage was about
    return told.get("message") or stored.launch_damage(folder) or None


def _job(known: _Known, signature: tuple | None) -> dict[str, Any]:
    """What a summary needs of job.json, read again when that has changed."""
    if known.job_signature != signature or not known.job:
        known.job, known.job_signature = actions.facts(known.folder, stored.job(known.folder)), signature
    return known.job


def files(folder: RunFolder, loras: tuple[str, ...]) -> list[dict]:
    """The LoRAs and the metrics, as far as they exist, as /view wants them."""
    there = [paths.lora_folder() / name for name in loras]
    return [gallery.view(path) for path in (*there, *([folder.events] if folder.events.exists() else []))]
