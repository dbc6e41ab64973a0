"""Where runs live: `<output>/mixgrpo/<run id>/`, and their LoRAs `<output>/loras/mixgrpo/<run id>.safetensors`.

The best LoRA on held-out prompts is called `<run id>-best.safetensors`, that of iteration 120 `<run id>-000120...`.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from ...mixgrpo_engine.records.run_folder import RunFolder

FOLDER = "mixgrpo"
LAST, BEST = WHICH = ("last", "best")
"""A run's LoRAs, beside those of single iterations."""

ID = re.compile(r"[a-z0-9][a-z0-9-]{0,79}")


def output_directory() -> Path:
    import folder_paths

    return Path(folder_paths.get_output_directory())


def runs_directory() -> Path:
    return output_directory() / FOLDER


def folder_of(run_id: str) -> RunFolder:
    """The folder of a run id, existing or not. Raises ValueError for anything that isn't a run id."""
    if not ID.fullmatch(run_id):
        raise ValueError(f"'{run_id}' is not a run id: small letters, digits and hyphens only.")
    return RunFolder(runs_directory() / run_id)


def lora_name(run_id: str, which: str = LAST) -> str:
    """A run's LoRA as stock LoRA loaders list it. which: last, best, or an iteration's number."""
    end = {LAST: "", BEST: "-best"}[which] if which in WHICH else f"-{int(which):06d}"
    return f"{FOLDER}/{run_id}{end}.safetensors"


def lora_folder() -> Path:
    """Where the LoRAs of all runs lie."""
    return output_directory() / "loras" / FOLDER


def lora_file(run_id: str, which: str = LAST) -> Path:
    return output_directory() / "loras" / lora_name(run_id, which)


def slug(name: str) -> str:
    """A run's name as part of a file name: at most 40 of a-z, 0-9 and single hyphens, never empty."""
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", ascii_name).strip("-")[:40].strip("-") or "run"
