"""MixGRPO_Algorithm and MixGRPO_LoRA: the settings of a run as wires."""

from __future__ import annotations

from dataclasses import dataclass, field

from comfy_api.latest import io

from ..mixgrpo_engine.config import (
    ADAPTER_DTYPES,
    AdapterConfig,
    LossConfig,
    OptimizerConfig,
    RolloutConfig,
    WindowConfig,
)
from . import algorithm_fields as fields
from .category import CATEGORY

ALGORITHM = io.Custom("MIXGRPO_ALGORITHM")
LORA = io.Custom("MIXGRPO_LORA")


@dataclass
class Algorithm:
    """What MIXGRPO_ALGORITHM carries."""

    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    window: WindowConfig = field(default_factory=WindowConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    @property
    def window_size(self) -> int:
        """Steps of the window; the setting 0 stands for every step but the last."""
        return self.window.size or self.rollout.steps - 1


class MixGRPOAlgorithm(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        preset = io.Combo.Input(
            "preset", options=list(fields.PRESET_NAMES), default=fields.DEFAULT_PRESET, optional=True,
            tooltip="Published settings. Choosing one fills in the fields below; changing a field afterwards makes it "
            "custom. In an API request a field that isn't given has the preset's value; no preset is custom.",
        )  # fmt: skip
        # For the browser, which writes them into the fields; Combo.Input takes no such argument in all versions.
        preset.extra_dict["presets"] = fields.preset_values()
        return io.Schema(
            node_id="MixGRPO_Algorithm",
            display_name="MixGRPO Algorithm",
            category=CATEGORY,
            description="How images are sampled, compared and learned from. The presets are published settings; the "
            "first one is the paper's for FLUX.1.",
            inputs=[preset, *(each.widget() for each in fields.FIELDS)],
            outputs=[ALGORITHM.Output(display_name="algorithm", tooltip="For MixGRPO Train.")],
        )

    @classmethod
    def execute(cls, preset=fields.CUSTOM, **given) -> io.NodeOutput:
        settings = fields.settings(preset, given)
        return io.NodeOutput(Algorithm(settings.rollout, settings.window, settings.loss, settings.optimizer))


class MixGRPOLoRA(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_LoRA",
            display_name="MixGRPO LoRA",
            category=CATEGORY,
            description="The adapter that the training learns: its size, and which layers get it.",
            inputs=[
                io.Int.Input(
                    "rank", default=32, min=1, max=1024,
                    tooltip="Width of the low-rank matrices. File size, memory and capacity grow with it.",
                ),
                io.Float.Input(
                    "alpha", default=0.0, min=0.0, max=4096.0, step=0.1,
                    tooltip="The adapter's output is scaled by alpha / rank. 0 takes alpha = rank.",
                ),
                io.String.Input(
                    "targets", default="",
                    tooltip="Fragments of layer names, separated by commas, e.g. attn, mlp. Empty takes all linear "
                    "layers of the transformer blocks.",
                ),
                io.String.Input(
                    "exclude", default="",
                    tooltip="Layers whose name holds one of these fragments (separated by commas) are left out.",
                ),
                io.Combo.Input(
                    "dtype", options=list(ADAPTER_DTYPES), default="float32", optional=True,
                    tooltip="Precision of the adapter while it is trained; the model keeps its own. bfloat16 takes "
                    "half the memory, but loses small updates in its rounding: for high learning rates only.",
                ),
            ],
            outputs=[LORA.Output(display_name="lora", tooltip="For MixGRPO Train.")],
        )

    @classmethod
    def execute(cls, rank, alpha, targets, exclude, dtype="float32") -> io.NodeOutput:
        return io.NodeOutput(AdapterConfig(rank=rank, alpha=alpha, targets=targets, exclude=exclude, dtype=dtype))


NODES = [MixGRPOAlgorithm, MixGRPOLoRA]
