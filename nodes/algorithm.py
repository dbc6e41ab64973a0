"""MixGRPO_Algorithm and MixGRPO_LoRA: the settings of a run as wires."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..mixgrpo_engine import presets
from ..mixgrpo_engine.config import SETTINGS, AdapterConfig, TrainConfig
from ..mixgrpo_engine.settings import Setting
from .category import CATEGORY, found_by
from .model import start_lora
from .setting_widgets import folded, setting, widget

ALGORITHM = io.Custom("MIXGRPO_ALGORITHM")
"""A TrainConfig whose run is defaults: that is the Train node's. Its adapter counts where no MIXGRPO_LORA is wired."""

LORA = io.Custom("MIXGRPO_LORA")
"""An AdapterConfig."""

CUSTOM = "custom"
"""The preset of those who choose every field themselves: a field that isn't given has config/'s default."""

DEFAULT_PRESET = "MixGRPO"
ALGORITHM_SETTINGS = sorted((each for each in SETTINGS if each.place), key=lambda each: each.place or 0)
LORA_SETTINGS = [setting("adapter", name) for name in ("rank", "alpha", "targets", "exclude", "dtype")]
START = setting("adapter", "start_from")


class MixGRPOAlgorithm(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        preset = io.Combo.Input(
            "preset", options=[CUSTOM, *presets.PRESETS], default=DEFAULT_PRESET, optional=True,
            tooltip="Published settings. Choosing one fills in the fields below; changing a field afterwards makes it "
            "custom. In an API request a field that isn't given has the preset's value; no preset is custom.",
        )  # fmt: skip
        # For the browser, which writes them into the fields; Combo.Input takes no such argument in all versions.
        preset.extra_dict["presets"] = preset_values()
        # And what a field meant before it was there, for the graphs that were saved then.
        preset.extra_dict["before"] = {each.label: each.default for each in ALGORITHM_SETTINGS}
        first = presets.preset(DEFAULT_PRESET)
        return io.Schema(
            node_id="MixGRPO_Algorithm",
            display_name="MixGRPO Algorithm",
            category=CATEGORY,
            **found_by(
                "reinforcement learning", "RLHF", "GRPO", "Flow-GRPO", "DanceGRPO", "LoRA training", "learning rate"
            ),
            description="How images are sampled, compared and learned from (reinforcement learning). The presets are "
            "published settings; the first one is the paper's for FLUX.1.",
            inputs=[preset, *(_widget(each, first) for each in ALGORITHM_SETTINGS)],
            outputs=[ALGORITHM.Output(display_name="algorithm", tooltip="For MixGRPO Train.")],
        )

    @classmethod
    def execute(cls, preset: str = CUSTOM, **given: Any) -> io.NodeOutput:
        return io.NodeOutput(chosen(preset, given))


class MixGRPOLoRA(io.ComfyNode):
    FILES = (START.field,)

    @classmethod
    def define_schema(cls) -> io.Schema:
        *widgets, dtype = LORA_SETTINGS
        start = io.Combo.Input(
            START.label, options=start_lora.choices(), default=start_lora.NONE, optional=True, tooltip=START.tooltip
        )
        return io.Schema(
            node_id="MixGRPO_LoRA",
            display_name="MixGRPO LoRA",
            category=CATEGORY,
            **found_by("LoRA training", "rank", "alpha", "adapter"),
            description="The adapter that the LoRA training learns: its size, and which layers get it.",
            inputs=[*(widget(each, name=each.field) for each in widgets), widget(dtype, optional=True), folded(start)],
            outputs=[LORA.Output(display_name="lora", tooltip="For MixGRPO Train.")],
        )

    @classmethod
    def execute(cls, start_from: str = start_lora.NONE, **given: Any) -> io.NodeOutput:
        values = {each.field: each.check(given.get(each.field, each.default), each.field) for each in LORA_SETTINGS}
        if start_from != start_lora.NONE:
            start_lora.path(start_from)
            values[START.field] = START.check(start_from)
        return io.NodeOutput(AdapterConfig(**values))


def chosen(preset: str, given: dict[str, Any]) -> TrainConfig:
    """A preset's settings with the given fields changed. Raises ValueError with one sentence for what can't work."""
    config = TrainConfig() if preset == CUSTOM else presets.preset(preset)
    for each in ALGORITHM_SETTINGS:
        if each.label in given:
            each.put(config, given[each.label])
    try:
        config.validate()
    except ValueError as error:
        raise ValueError(f"{error}{_where(str(error))}") from None
    return config


def _where(sentence: str) -> str:
    """Where the setting is that a refusal begins with, when a node doesn't show it at first."""
    is_folded = sentence.split(" ", 1)[0] in {each.label for each in ALGORITHM_SETTINGS if each.advanced}
    return " Unfold the node's settings to see it." if is_folded else ""


def _widget(about: Setting, preset: TrainConfig) -> io.Input:
    only = "Of the LoRA where no MixGRPO LoRA is connected to Train. " * (about.group == "adapter")
    return widget(about, default=about.of(preset), tooltip=only + about.tooltip, optional=True)


def preset_values() -> dict[str, dict[str, Any]]:
    """Preset -> field -> value; without "custom", which has no values of its own."""
    every = {name: presets.preset(name) for name in presets.PRESETS}
    return {name: {each.label: each.of(values) for each in ALGORITHM_SETTINGS} for name, values in every.items()}


NODES = [MixGRPOAlgorithm, MixGRPOLoRA]
