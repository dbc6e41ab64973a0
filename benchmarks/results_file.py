"""bench.json: what was measured, with which settings, on what. It is written after each run of part B."""

from __future__ import annotations

import json
from pathlib import Path

from mixgrpo_engine.records.files import read_json, write_json


class ResultsFile:
    """Sections "cost", "cost_middle", "reward" and "scoring", each {"settings", "machine", "summary",
    and its raw figures}."""

    def __init__(self, path: Path):
        """Raises ValueError for a file that is damaged."""
        self.path = path
        self.sections: dict[str, dict] = read_json(path) if path.exists() else {}

    def save(self, name: str, section: dict) -> None:
        self.sections[name] = section
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.path, self.sections)

    def matches(self, name: str, settings: dict, machine: dict) -> bool:
        """Whether the section was measured with these settings on this machine."""
        section = self.sections.get(name)
        plain = json.loads(json.dumps([settings, machine]))  # tuples are lists in the file
        return section is not None and [section["settings"], section["machine"]] == plain

    def has_runs(self, wanted: list[tuple[str, int]]) -> bool:
        """Whether part B is complete: a run for each (variant's name, seed)."""
        return set(wanted) <= {key for key, _ in self._runs()}

    def runs_to_go_on_with(self, settings: dict, machine: dict, wanted: list[tuple[str, int]]) -> list[dict]:
        """The runs of an interrupted part B; none when it was finished, since it then starts again.

        Raises ValueError for an interrupted one with other settings or on another machine.
        """
        if "reward" not in self.sections or self.has_runs(wanted):
            return []
        if not self.matches("reward", settings, machine):
            raise ValueError(
                f"{self.path} holds an interrupted measurement with other settings or of another machine: give the "
                "same settings to go on with it, or --fresh to start again."
            )
        return [run for _, run in self._runs()]

    def _runs(self) -> list[tuple[tuple[str, int], dict]]:
        runs = self.sections.get("reward", {}).get("runs", [])
        return [((run["variant"], run["seed"]), run) for run in runs]
