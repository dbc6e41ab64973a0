"""Runs as the server sees them: cut the graph, start and find workers, follow their events, answer over HTTP.

graph.py cuts and fingerprints; job.py makes the job, packs.py names its packs, signature.py signs it; submit.py
decides (start, resume, reattach, go on), turns.py when; launch.py starts the process; stored.py and stored_prompts.py
read its files and liveness.py its state; sweep.py ties the runs of a list together; wait.py waits inside a node;
published_lora.py publishes the result, bundle.py zips the run.

routes.py answers: overview.py lists the runs, with what actions.py would let them do; event_lines.py reads logs, of
which history.py makes columns.py's curves; gallery.py finds images, denoising.py the window's places; report_page.py
and curve.py draw. kept_copy.py keeps summaries and (kept_history.py) histories for the next server. follow.py tells the
browsers, at once of what news.py holds.
"""

from __future__ import annotations


def register() -> None:
    """Adds the routes (those of votes, too), the follower and the modules' cache rule to ComfyUI's server.

    Does nothing in a worker, or where no server is.
    """
    from .launch import in_worker

    if in_worker():
        return
    try:
        from server import PromptServer
    except ImportError:
        return
    instance = getattr(PromptServer, "instance", None)
    if instance is None:
        return
    from .. import fresh_modules
    from ..votes import routes as votes_routes
    from . import follow, routes

    routes.add(instance.routes)
    votes_routes.add(instance.routes)
    follow.start_with(instance)
    fresh_modules.start_with(instance)
