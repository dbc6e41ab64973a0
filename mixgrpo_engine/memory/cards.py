"""Settings for cards that people have: which fit is an estimate (docs/memory.md), none of them was run on a GPU.

Only what matters for memory is here; everything else is a preset's (presets.py). The workflows' templates for cards are
made from these.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..config import TrainConfig
from ..presets import PRESETS


@dataclass(frozen=True)
class Card:
    """A model, a card, and settings under which the one should be trained on the other."""

    gigabytes: int  # the card's memory, GB of 2**30 bytes
    model: str  # and its weights' dtype
    preset: str  # of presets.py
    template: str  # of workflows/, made from this by scripts/card_templates.py
    settings: dict[str, dict] = field(default_factory=dict)  # what differs from the preset

    def config(self) -> TrainConfig:
        """The settings of a run. Prompts, iterations and the rest of a run keep their defaults."""
        groups = PRESETS[self.preset]
        names = [*groups, *(name for name in self.settings if name not in groups)]
        return TrainConfig.from_dict({name: {**groups.get(name, {}), **self.settings.get(name, {})} for name in names})


_512 = {"width": 512, "height": 512, "gradient_checkpointing": True}
_1024 = {"width": 1024, "height": 1024, "gradient_checkpointing": True}

CARDS: dict[str, Card] = {
    "SD3.5 medium, 512 px, 16 GB": Card(16, "sd3.5_medium bf16", "MixGRPO SD3.5", "sd35_medium_16gb", {"run": _512}),
    "FLUX.1-dev fp8, 512 px, 24 GB": Card(
        24, "flux1-dev fp8", "MixGRPO-Flash", "flux_dev_fp8_24gb", {"run": _512, "adapter": {"rank": 16, "alpha": 32.0}}
    ),
    "FLUX.1-dev bf16, 512 px, 48 GB": Card(48, "flux1-dev bf16", "MixGRPO", "flux_dev_48gb", {"run": _512}),
    "FLUX.1-dev bf16, 1024 px, 80 GB": Card(80, "flux1-dev bf16", "MixGRPO", "flux_dev_80gb", {"run": _1024}),
}
