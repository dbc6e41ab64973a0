"""MixGRPO_SaveScored: PNG files that carry their own scores.

Why not SaveImage: it writes one text for a whole batch, and only what is known before the graph runs or what a node
slips into the request's extra data, which is gone as soon as that node's result comes from the cache.
"""

from __future__ import annotations

import json
from pathlib import Path

from comfy_api.latest import io
from torch import Tensor

from ..category import SCORING, found_by
from . import output_files, score_list
from .image_list import batches, one

CHUNK = "mixgrpo_scores"
BEST_FIRST, AS_GIVEN = "best first", "as they come"


class MixGRPOSaveScored(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_SaveScored",
            display_name="MixGRPO Save Scored Images",
            category=SCORING,
            **found_by("save image", "reward", "score metadata", "rank images"),
            description="Saves PNG images to the output folder like Save Image, each with its scores and rank in its "
            f"metadata (text '{CHUNK}'), numbered from best to worst.",
            is_input_list=True,
            is_output_node=True,
            inputs=[
                io.Image.Input("images", tooltip="The images to save."),
                io.MultiType.Input(
                    "scores", types=[io.String, io.Float],
                    tooltip="Output json of MixGRPO Score or MixGRPO Pick Best, of these same images. Their output "
                    "scores does too, without the details.",
                ),
                io.String.Input(
                    "filename_prefix", default="mixgrpo/scored",
                    tooltip="Names of the files, as in Save Image: subfolders of the output folder and words like "
                    "%year% may be in it.",
                ),
                io.Combo.Input(
                    "order", options=[BEST_FIRST, AS_GIVEN], default=BEST_FIRST,
                    tooltip="Which image gets the lowest number. Images without a score come last.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="images", is_output_list=True, tooltip="The images as they came in, for what follows."
                )
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls,
        images: list[Tensor],
        scores: list,
        filename_prefix: list[str],
        order: list[str],
    ) -> io.NodeOutput:
        pictures = [batch[row] for batch in batches(images) for row in range(len(batch))]
        entries = score_list.read(scores)["images"]
        if len(entries) != len(pictures):
            raise ValueError(
                f"There are {len(entries)} scores for {len(pictures)} images: connect the scores of these images."
            )
        places = list(range(len(pictures)))
        if one(order) == BEST_FIRST:
            places.sort(key=lambda p: (entries[p]["score"] is None, -(entries[p]["score"] or 0.0), p))
        height, width = pictures[0].shape[:2]
        folder, name, counter, subfolder = output_files.place(one(filename_prefix), width, height)
        saved, texts = [], cls._workflow()
        for number, place in enumerate(places, counter):
            file = f"{name.replace('%batch_num%', str(place))}_{number:05}_.png"
            # Whoever wants no workflow in files doesn't want the prompt there either.
            scores_text = json.dumps(entries[place] if texts else {**entries[place], "prompt": None})
            save_png(pictures[place], folder / file, {**texts, CHUNK: scores_text})
            saved.append(output_files.entry(file, subfolder))
        return io.NodeOutput(list(images), ui={"images": saved})

    @classmethod
    def _workflow(cls) -> dict[str, str]:
        """The texts that SaveImage writes too, unless ComfyUI was started without metadata."""
        from comfy.cli_args import args

        if args.disable_metadata:
            return {}
        texts = {"prompt": cls.hidden.prompt} if cls.hidden.prompt is not None else {}
        return {name: json.dumps(value) for name, value in {**texts, **(cls.hidden.extra_pnginfo or {})}.items()}


def save_png(image: Tensor, path: Path, texts: dict[str, str]) -> None:
    """image: (height, width, 3) in 0..1; texts: the file's metadata."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    metadata = PngInfo()
    for name, text in texts.items():
        metadata.add_text(name, text)
    # As SaveImage rounds, so that both give the same pixels.
    pixels = (255.0 * image.nan_to_num(0.0)).clamp(0, 255).cpu().byte().numpy()
    Image.fromarray(pixels).save(path, pnginfo=metadata, compress_level=4)


NODES = [MixGRPOSaveScored]
