"""Executes what is wired between MixGRPO Item and Train once an item, and keeps what it gives on disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ...mixgrpo_engine.items import Item
from ...mixgrpo_engine.prompts import PromptSet
from ...mixgrpo_engine.records.events import Notice, Stage
from ...mixgrpo_engine.training.pulse import Pulse
from .. import items as item_node
from ..comfy_types import Conditioning
from ..model import conditioning, item_checks
from ..model.conditioning import Encoded, ItemInputs
from ..model.encodings import StoredEncodings
from ..runs import item_graph
from . import stash

if TYPE_CHECKING:
    from .stages import Loader

TOLD_FROM = 2**30  # bytes of all items on disk


def make(loader: Loader, stored: StoredEncodings, prompts: PromptSet) -> None:
    """Makes the missing files of `stored`, with one executor for all: loaders and what is the same for every item run
    once.

    Raises ValueError for an item that can't be trained, or when the disk can't hold all; StopRequested when the run is
    cancelled between two items; the files made so far stay.
    """
    total, numbers = len(stored), {name: number for number, name in enumerate(stored.prompts)}
    loader.reporter.emit(Stage("encode", f"Encoding {total} items."))
    item_node.set_run([prompts.items.get(name, Item(name)) for name in numbers])
    part, executor = loader.part(*loader.per_item), loader.comfy.executor()
    pulse = Pulse(loader.reporter.emit, loader.stop.requested, loader.iterations)
    first: list[ItemInputs] = [made] if (made := _first(stored)) else []

    def before_each(done: int) -> None:
        loader.stop.check()
        pulse.progress("encode", done, total)
        if done and done % stored.a_file == 0:
            _check_room(loader, stored, done)

    def one(name: str) -> ItemInputs:
        number = numbers[name]
        with loader.stop.calling(loader.comfy.interrupt):
            loader.comfy.execute(item_graph.numbered(part, number), loader.node_id, executor)
        loader.stop.check()  # each execution resets ComfyUI's interrupt flag
        values = stash.take()
        made = conditioning.item_inputs(*(_given(loader, values, each, number) for each in item_graph.OF_ITEMS))
        if not first:
            first.append(made)
        item_checks.check_alike(name, made, first[0])
        return made

    def encode(some: Sequence[str], told: Callable[[int], None]) -> Encoded:
        made: dict[str, Conditioning | ItemInputs] = {}
        for done, name in enumerate(some):
            told(done)
            made[name] = one(name)
        return Encoded(made)

    stored.make(encode, before_each)


def _first(stored: StoredEncodings) -> ItemInputs | None:
    return stored.of_item(stored.prompts[0]) if 0 not in stored.missing() else None


def _given(loader: Loader, values: dict[str, Any], name: str, number: int) -> Any:
    """What the graph gave for an input. Raises ValueError where it is connected and gave nothing."""
    if name in loader.per_item and values.get(name) is None:
        item = item_node.item_of(None, number)
        lacks = [each for each in item_node.PICTURE_OUTPUTS if not item.has(each)]
        what = f": it has no {' and no '.join(lacks)}, which a node in between may want" if lacks else ""
        raise ValueError(f"{name} of MixGRPO Train got nothing for item '{item.label}'{what}.")
    return values.get(name)


def _check_room(loader: Loader, stored: StoredEncodings, done: int) -> None:
    """Once, when the first file tells how much an item takes."""
    if done > stored.a_file:
        return
    size = sum(file.stat().st_size for file in stored.folder.glob("*.safetensors")) / done
    needed, free = size * (len(stored) - done), shutil.disk_usage(stored.folder).free
    if needed > free:
        raise ValueError(
            f"The conditionings of {len(stored)} items take {size * len(stored) / 1e9:.0f} GB, and {stored.folder} has "
            f"{free / 1e9:.0f} GB left: free some space, or train on fewer items."
        )
    if size * len(stored) > TOLD_FROM:
        loader.reporter.emit(
            Notice(
                loader.reporter.checkpoint, f"The items' conditionings take {size * len(stored) / 1e9:.1f} GB on disk."
            )
        )
