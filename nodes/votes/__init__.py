"""One person's taste: sets of votes in the output folder, nodes that ask and learn from them, routes to vote through.

sets.py finds the folders; vote.py, you.py and taste.py are the nodes; routes.py answers the panel and scripts;
pictures.py adds images that are already there.
"""

from __future__ import annotations


def register() -> None:
    """Adds the routes to ComfyUI's server; nothing in a worker, or where no server is."""
    from ..runs.launch import in_worker

    if in_worker():
        return
    try:
        from server import PromptServer
    except ImportError:
        return
    instance = getattr(PromptServer, "instance", None)
    if instance is not None:
        from . import routes

        routes.add(instance.routes)
