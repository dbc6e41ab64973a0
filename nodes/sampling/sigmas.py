"""MixGRPO_Sigmas: the noise levels of a training for stock graphs."""

from __future__ import annotations

from comfy_api.latest import io

from ..category import SAMPLING
from ..comfy_types import Model
from ..model.families import check_flow_matching
from ..model.schedule import window_sigmas
from ..setting_widgets import setting, widget


class MixGRPOSigmas(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_Sigmas",
            display_name="MixGRPO Sigmas",
            category=SAMPLING,
            description="The noise levels of a MixGRPO training: evenly spaced and shifted, and for MixGRPO-Flash with "
            "fewer steps after the window.",
            inputs=[
                io.Model.Input("model", tooltip="A flow-matching model, for its own time shift."),
                io.Int.Input(
                    "steps", default=25, min=1, max=10000, tooltip="Denoising steps before Flash takes some away."
                ),
                io.Float.Input(
                    "shift", default=0.0, min=0.0, max=20.0, step=0.01,
                    tooltip="Time shift of the noise levels: higher spends more steps on high noise. 0 takes the "
                    "model's own (ModelSampling nodes count).",
                ),
                io.Float.Input(
                    "flash_ratio", default=1.0, min=0.01, max=1.0, step=0.01,
                    tooltip="MixGRPO-Flash: share of the steps after the window that are kept. 1 keeps all and needs "
                    "no window; the paper's Flash takes 0.4, Flash* 0.2.",
                ),
                io.Int.Input(
                    "window_start", default=0, min=0, max=9999,
                    tooltip="The sampler's window_start. It matters only with flash_ratio below 1.",
                ),
                io.Int.Input(
                    "window_size", default=4, min=0, max=9999,
                    tooltip="The sampler's window_size. It matters only with flash_ratio below 1.",
                ),
                widget(setting("rollout", "spacing"), optional=True),
            ],
            outputs=[io.Sigmas.Output(display_name="sigmas", tooltip="For SamplerCustomAdvanced: from 1 to 0.")],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model: Model, steps: int, shift: float, flash_ratio: float, window_start: int, window_size: int,
        spacing: str = "uniform",
    ) -> io.NodeOutput:  # fmt: skip
        check_flow_matching(model)
        window = range(window_start, window_start + window_size)
        model_sampling = model.get_model_object("model_sampling")
        return io.NodeOutput(window_sigmas(model_sampling, steps, shift, window, flash_ratio, spacing))


NODES = [MixGRPOSigmas]
