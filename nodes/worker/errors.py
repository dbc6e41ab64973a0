"""How a worker's job can end early."""

from __future__ import annotations


class StopRequested(Exception):
    """The run was asked to stop before the training began."""


class GraphError(Exception):
    """A node of the cut graph failed."""

    def __init__(self, message: str, node_id: str = "", traceback: str = "") -> None:
        super().__init__(message)
        self.node_id = node_id
        self.traceback = traceback
