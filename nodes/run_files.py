"""MixGRPO_RunFiles: a finished run's LoRA, or all that belongs to it, as a file that any client fetches."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .category import CATEGORY, found_by
from .runs import bundle, gallery, paths, published_lora
from .training import RUN, find_run

LORA, BEST, ALL = WHAT = ("LoRA", "best LoRA", "zip of the run")
FILES, IMAGES = LISTED = ("files", "images")


class MixGRPORunFiles(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_RunFiles",
            display_name="MixGRPO Run Files",
            category=CATEGORY,
            **found_by("LoRA download", "export", "zip", "RunPod", "API"),
            description="Lists a finished run's LoRA, or a zip with everything of the run, among the prompt's outputs: "
            "for scripts and services that fetch a prompt's outputs and know nothing of runs.",
            is_output_node=True,
            inputs=[
                RUN.Input("run", optional=True, tooltip="A finished run, from MixGRPO Train or Wait."),
                io.String.Input(
                    "run_id", default="", optional=True, tooltip="The id of a run, when none is connected above."
                ),
                io.Combo.Input(
                    "what", options=list(WHAT), default=LORA,
                    tooltip="The LoRA at the end of the training; the one whose held-out prompts scored best; or a zip "
                    "with both, reward curve, report, metrics, settings and workflow.",
                ),
                io.Combo.Input(
                    "listed_as", options=list(LISTED), default=FILES,
                    tooltip="The name in the prompt's outputs. images: for services that return nothing else, RunPod's "
                    "among them; ComfyUI's own page then shows a broken picture here.",
                ),
            ],
            outputs=[io.String.Output(display_name="path", tooltip="The file's path on the server.")],
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> float:
        return float("nan")  # the file may be gone, or the run have gone on

    @classmethod
    def execute(cls, what: str, listed_as: str, run: dict | None = None, run_id: str = "") -> io.NodeOutput:
        folder = find_run(run, run_id)
        which = paths.BEST if what == BEST else paths.LAST
        published_lora.require_finished(folder, which)
        path = bundle.make(folder) if what == ALL else paths.lora_file(folder.name, which)
        return io.NodeOutput(str(path), ui={listed_as: [gallery.view(path)]})


NODES = [MixGRPORunFiles]
