"""A run as one zip file, for clients that fetch files and know nothing of runs."""

from __future__ import annotations

import json
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

from ...mixgrpo_engine.records.files import written_beside
from ...mixgrpo_engine.records.run_folder import RunFolder
from . import overview, paths, report_page, stored
from .history import HISTORIES

TOLD = ("name", "config", "prompts", "versions")


def make(folder: RunFolder) -> Path:
    """Writes it anew, into the run's folder: the published LoRAs, curve, report, metrics, settings and workflow."""
    job = stored.job(folder)
    summary = overview.summary(folder)
    loras = [paths.lora_file(folder.name, which) for which in paths.WHICH]
    target = folder.path / f"{folder.name}.zip"
    with written_beside(target) as temporary, ZipFile(temporary, "w", ZIP_DEFLATED) as archive:
        for path in (*loras, folder.path / "reward.png", folder.events, folder.path / "workflow.json"):
            if path.is_file() and not path.is_symlink():
                archive.write(path, path.name)
        settings = {name: job.get(name) for name in TOLD}
        archive.writestr("settings.json", json.dumps(settings, indent=1))
        archive.writestr(
            "report.html", HISTORIES.ask(folder, lambda each: report_page.make(folder, summary, job, each))
        )
    return target
