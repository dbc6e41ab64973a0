"""The part of a queued graph that is executed once an item: what makes conditionings of MixGRPO Item's outputs."""

from __future__ import annotations

import copy
from typing import Any

from . import graph

ITEM = "MixGRPO_Item"
PICTURES = range(1, 4)  # of its outputs: image, mask, image_2
POSITIVE, NEGATIVE, LATENT = OF_ITEMS = ("positive", "negative", "latent")


def leaves(cut: dict, node_id: str, prompts: Any, guided: bool, negative_prompt: str) -> dict:
    """The cut graph with Item nodes that have nothing above them, and without a negative that guidance doesn't ask for.

    prompts: Train's own link to them. Raises ValueError with one sentence for wires that a training can't follow.
    """
    inputs = cut[node_id]["inputs"]
    per_item = [name for name in OF_ITEMS if name in inputs and (name != NEGATIVE or guided)]
    once = [name for name in inputs if name not in OF_ITEMS]
    for name in once:
        if of_items(graph.keep_inputs(cut, node_id, [name])):
            raise ValueError(
                f"{name} of MixGRPO Train depends on a MixGRPO Item, but is loaded once for all items: only positive, "
                "negative and latent may."
            )
    if not any(name in inputs for name in OF_ITEMS):
        return cut
    if POSITIVE not in inputs:
        raise ValueError(
            f"{next(iter(per_item), NEGATIVE)} of MixGRPO Train is connected without positive: connect both."
        )
    if not of_items(graph.keep_inputs(cut, node_id, [POSITIVE])):
        raise ValueError(
            "positive of MixGRPO Train is the same for every prompt: make it of the outputs of a MixGRPO Item."
        )
    if NEGATIVE in per_item and negative_prompt:
        raise ValueError(
            "MixGRPO Train has a negative and a negative_prompt: clear negative_prompt, or disconnect negative."
        )
    made = copy.deepcopy(graph.keep_inputs(cut, node_id, [*once, *per_item]))
    for item in of_items(made):
        told = made[item]["inputs"]
        if told.pop("prompts", None) != prompts:
            raise ValueError(
                f"MixGRPO Item (node {item}) and MixGRPO Train have different prompts: wire both to one MixGRPO "
                "Prompts."
            )
        told.pop("number", None)
    return graph.keep_inputs(made, node_id, [*once, *per_item])


def of_items(cut: dict) -> list[str]:
    """The Item nodes of a cut graph."""
    return [node for node, told in cut.items() if told["class_type"] == ITEM]


def takes_pictures(cut: dict) -> bool:
    """Whether a node of the cut graph takes a picture of an Item."""
    items = of_items(cut)
    links = [value for node in cut.values() for value in node["inputs"].values() if graph.is_link(value)]
    return any(source in items and output in PICTURES for source, output in links)


def wanted(inputs: dict) -> list[str]:
    """Which of a Train node's inputs are made once an item."""
    return [name for name in OF_ITEMS if name in inputs]


def numbered(part: dict, number: int) -> dict:
    """The graph of one item: a fresh one each time, because the executor writes into it."""
    made = copy.deepcopy(part)
    for item in of_items(made):
        made[item]["inputs"]["number"] = number
    return made
