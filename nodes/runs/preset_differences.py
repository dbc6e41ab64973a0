"""Which published preset a run's settings are nearest to, and where they differ from it."""

from __future__ import annotations

from typing import Any

from ...mixgrpo_engine.config import SETTINGS, TrainConfig
from ...mixgrpo_engine.presets import PRESETS, preset

ALGORITHM = [each for each in SETTINGS if each.group != "run"]


def told(config: Any) -> dict[str, Any]:
    """{"preset", "changed": [{"setting", "value", "preset"}]}; without a name where the settings can't be read."""
    try:
        settings = TrainConfig.from_dict(config)
    except (ValueError, TypeError, AttributeError):
        return {"preset": None, "changed": []}
    changed = {
        name: [each for each in ALGORITHM if each.of(settings) != each.of(published)]
        for name, published in ((name, preset(name)) for name in PRESETS)
    }
    nearest = min(changed, key=lambda name: len(changed[name]))
    published = preset(nearest)
    return {
        "preset": nearest,
        "changed": [
            {"setting": each.label, "value": each.of(settings), "preset": each.of(published)}
            for each in changed[nearest]
        ],
    }
