"""What only the server's owner decides, never a graph: environment variables, or mixgrpo.json in ComfyUI's user folder.

A graph may come from a stranger. So it can't allow itself a download or an address inside the network, and it can't
hold a key, which would travel with every shared workflow and picture.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

FILE = "mixgrpo.json"
VARIABLES = {
    "downloads": "MIXGRPO_DOWNLOADS",  # "1" allows the download of known reward models
    "judge_hosts": "MIXGRPO_JUDGE_HOSTS",  # hosts of scorers that graphs may name: see remote/hosts.AllowedHosts
    "judge_key": "MIXGRPO_JUDGE_KEY",  # sent to them as a bearer token
    "stop_seconds": "MIXGRPO_STOP_SECONDS",  # how long a cancelled training may take before its process is ended
    "worker_packs": "MIXGRPO_WORKER_PACKS",  # packs that workers load beside those of the graph: see runs/packs.py
    "trackers": "MIXGRPO_TRACKERS",  # which experiment trackers get the runs' curves: records/trackers.py
    "workers": "MIXGRPO_WORKERS",  # how many trainings may be at work at once; the others wait for their turn
}


def text(name: str) -> str:
    """A setting of VARIABLES as text; the environment wins, "" when nobody has set it.

    A list in the file becomes words with commas between. Raises ValueError with one sentence when the file can't be
    used.
    """
    value = os.environ.get(VARIABLES[name])
    if value is None:
        value = _file().get(name)
    if value is None or isinstance(value, bool):
        return "1" if value else ""
    parts = value if isinstance(value, list) else [value]
    if not all(isinstance(part, (str, int)) and not isinstance(part, bool) for part in parts):
        raise ValueError(f"{name} in {path()} must be a text or a list of texts: mend it.")
    return ",".join(str(part).strip() for part in parts)


def allowed(name: str) -> bool:
    """Whether a yes-or-no setting is on."""
    return text(name).lower() in ("1", "true", "yes", "on")


def words(name: str) -> list[str]:
    """A setting with commas between its words."""
    return [word.strip() for word in text(name).split(",") if word.strip()]


def seconds(name: str, default: float) -> float:
    """A setting that is a time. Raises ValueError with one sentence for anything else."""
    told = text(name)
    try:
        value = float(told or default)
    except ValueError:
        value = math.nan
    if not 0 < value <= 86400:
        raise ValueError(f"{name} is '{told[:40]}': set it to seconds above 0, 86400 at most ({how_to_set(name)}).")
    return value


def count(name: str, default: int, most: int) -> int:
    """A setting that is a whole number above 0. Raises ValueError with one sentence for anything else."""
    told = text(name) or str(default)
    if not (told.isascii() and told.isdigit() and len(told) < 10 and 1 <= int(told) <= most):
        raise ValueError(f"{name} is '{told[:40]}': set it to a whole number, 1 to {most} ({how_to_set(name)}).")
    return int(told)


def how_to_set(name: str) -> str:
    """Where an owner writes a setting, as the end of a sentence."""
    return f"the environment variable {VARIABLES[name]}, or {name} in {FILE} in ComfyUI's user folder"


def version() -> tuple[int, int]:
    """Changes when the file does: for nodes whose result depends on a setting."""
    try:
        found = path().stat()
    except OSError:
        return (0, 0)
    return (found.st_mtime_ns, found.st_size)


def path() -> Path:
    """Where the file is, whether or not there is one. ComfyUI serves a user's own subfolder, but not this file."""
    import folder_paths

    return Path(folder_paths.get_user_directory()) / FILE


def _file() -> dict:
    try:
        # Some editors begin a file with a mark of UTF-8.
        values = json.loads(path().read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        # Not the text itself, which may hold a key.
        raise ValueError(f"{path()} can't be read as JSON ({error}): mend or remove it.") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path()} must hold a JSON object such as {{}}: mend or remove it.")
    unknown = values.keys() - VARIABLES.keys()
    if unknown:
        raise ValueError(
            f"{path()} holds '{min(unknown)}', which is no setting: the settings are {', '.join(VARIABLES)}."
        )
    return values
