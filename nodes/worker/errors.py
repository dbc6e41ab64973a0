"""How a worker's job can end early, and what is told of it."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from ...mixgrpo_engine.records import disk
from ...mixgrpo_engine.records.events import Failed
from ...mixgrpo_engine.records.readable import traceback_of, words_of


class StopRequested(Exception):
    """The run was asked to stop before the training began."""


class OthersEnded(Exception):
    """Another process of several has ended, and the launcher ends this one, too: the reason isn't here."""


class GraphError(Exception):
    """A node of the cut graph failed."""

    def __init__(
        self,
        message: str,
        node_id: str = "",
        traceback: str = "",
        missing: Iterable[str] = (),
        lookup: bool = False,
    ) -> None:
        """missing: node types that were looked for in vain so far; lookup: it failed because something isn't there."""
        super().__init__(message)
        self.node_id = node_id
        self.traceback = traceback
        self.missing, self.lookup = frozenset(missing), lookup


def failure_of(error: BaseException) -> Failed:
    """What a run says of the error that ends it."""
    if isinstance(error, GraphError):
        return Failed(str(error), error.traceback, error.node_id)
    sentence = str(disk.trouble(error) or words_of(error))
    if isinstance(error, SystemExit):
        sentence = f"A node or library ended the training's process (SystemExit: {error.code})."
    if _is_out_of_memory(error):
        sentence += (
            "\nThe memory is too small for these settings, and model calls are split by themselves as far as it goes: "
            "switch on gradient_checkpointing, train smaller images, or end other programs that use the GPU."
        )
    return Failed(sentence, traceback_of(error))


def _is_out_of_memory(error: BaseException) -> bool:
    if "torch" not in sys.modules:  # nothing here brings it before ComfyUI is booted
        return False
    from ...mixgrpo_engine.memory.micro_batches import is_out_of_memory

    return is_out_of_memory(error)
