"""MixGRPO_Item: prompt, pictures and columns of one item, for whatever makes a model's conditioning of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from comfy_api.latest import io

from ..mixgrpo_engine.items import IMAGE, MASK, SECOND, Item
from ..mixgrpo_engine.prompts import PromptSet
from .category import CATEGORY, found_by
from .prompts import PROMPTS

NODE_ID = "MixGRPO_Item"
OUTPUTS = ("prompt", IMAGE, MASK, SECOND, "column")
PICTURE_OUTPUTS = (IMAGE, MASK, SECOND)

_of_run: list[Item] = []  # in a worker: what its Item nodes count through


def set_run(items: Sequence[Item]) -> None:
    """In a worker, where the graph is cut above the Item nodes: `number` is a place among these."""
    _of_run[:] = items


class MixGRPOItem(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id=NODE_ID,
            display_name="MixGRPO Item",
            category=CATEGORY,
            **found_by("edit", "inpaint", "image to video", "reference", "dataset", "Kontext", "source image"),
            description="Prompt, picture, mask and columns of one item of MixGRPO Prompts, as ordinary outputs. Make a "
            "conditioning of them as you would to sample, and wire it into positive of MixGRPO Train: the training "
            "does that once for every item.",
            inputs=[
                PROMPTS.Input("prompts", tooltip="The same MixGRPO Prompts that MixGRPO Train has."),
                io.Int.Input(
                    "number", default=0, min=0, max=10_000_000,
                    tooltip="Which item this node gives outside a training: 0 is the first training prompt, the "
                    "held-out ones come last. A training takes every item in turn, whatever stands here.",
                ),
                io.String.Input(
                    "column", default="", tooltip="The name of a column of the list, for the output of that name."
                ),
            ],
            outputs=[
                io.String.Output(display_name="prompt", tooltip="The item's prompt, for a text encode node."),
                io.Image.Output(display_name=IMAGE, tooltip="Its picture, in its own size."),
                io.Mask.Output(
                    display_name=MASK,
                    tooltip="Where the picture may change (white). Without a mask of its own: where it is transparent.",
                ),
                io.Image.Output(display_name=SECOND, tooltip="Its second picture."),
                io.String.Output(display_name="column", tooltip="What the item has in the column named above."),
            ],
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(cls, number: int = 0, column: str = "", **_: Any) -> tuple:
        return number, column

    @classmethod
    def execute(cls, number: int = 0, column: str = "", prompts: PromptSet | None = None) -> io.NodeOutput:
        values = outputs(item_of(prompts, number), column)
        return io.NodeOutput(*(_or_block(name, values[name], number) for name in OUTPUTS))


def item_of(prompts: PromptSet | None, number: int) -> Item:
    """Raises ValueError when there aren't so many."""
    if prompts is None:
        return _of_run[number]
    names = [*prompts.train, *prompts.held_out]
    if number >= len(names):
        raise ValueError(f"number is {number}, but MixGRPO Prompts has {len(names)} prompts: 0 is the first one.")
    return prompts.items.get(names[number], Item(names[number]))


def outputs(item: Item, column: str) -> dict[str, Any]:
    """By name; None for what the item doesn't have."""
    pictures = {name: None if each is None else each[None] for name, each in item.all_pixels().items()}
    return {"prompt": item.prompt, **pictures, "column": item.columns.get(column.strip())}


def _or_block(name: str, value: Any, number: int) -> Any:
    """What can't be given stops those nodes alone that want it."""
    from comfy_execution.graph import ExecutionBlocker

    return ExecutionBlocker(f"Item {number} has no {name}.") if value is None else value


NODES = [MixGRPOItem]
