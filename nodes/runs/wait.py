"""Waits for a run's end inside a node: native progress, Cancel, and the worker's own words when it failed.

Which run a node shows is told once, as `mixgrpo.node` {"workflow_id", "node_id", "run_id"}, to the client that queued
it; the run's progress comes to all browsers alike (follow.py).
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from ...mixgrpo_engine.records import events
from ...mixgrpo_engine.records.readable import readable
from ...mixgrpo_engine.records.run_folder import RunFolder
from . import launch, liveness, log_tail, published_lora, stored, submit
from .cancel import cancel_all

NODE_EVENT = "mixgrpo.node"
SECONDS = 0.5
TICK_SECONDS = 5.0
"""Clients give up on a server that is silent for too long: progress is told again at least this often."""

PACE_ITERATIONS = 3
"""So many tell how long one takes: the first is slower."""

LOG_LINES, LOG_BYTES = 15, 2**14
MOST_ENDINGS = 5
"""Of a sweep's runs that didn't finish: each may bring its traceback."""


class RunEnded(RuntimeError):
    """A run ended without being finished; the message says why and where its log is."""


async def wait_for(
    folders: Sequence[RunFolder], timeout: float = 0.0, node_id: str | None = None, in_browser: bool = False
) -> None:
    """Until all runs have ended. timeout in seconds, 0 waits as long as it takes.

    in_browser: errors are for a person who has the run's log and traceback in the panel, not for a script.

    Raises RunEnded when a run failed, died or was cancelled elsewhere, but not before the others have ended, too;
    TimeoutError when the time is over (the runs go on), and ComfyUI's interrupt when the user cancels the prompt: then
    all of them are cancelled. In the browser a run that was cancelled in the panel ends the prompt so, too.
    """
    from comfy.model_management import InterruptProcessingException

    deadline = time.monotonic() + timeout if timeout else math.inf
    progress = _Progress(node_id, len(folders))
    try:
        endings = [await _ended(folder, deadline, timeout, progress, in_browser) for folder in folders]
    except (InterruptProcessingException, asyncio.CancelledError):
        # ComfyUI's interrupt is heard by the first node that looks. If that was another node of this prompt, the
        # prompt ends and this task with it, by CancelledError.
        cancel_all(folders)
        raise
    bad = [each for each in endings if each]
    if bad and in_browser and all(liveness.state_of(folder) in ("finished", "cancelled") for folder in folders):
        raise InterruptProcessingException  # nothing has failed: as ComfyUI's own Cancel ends the prompt
    if bad and len(folders) > 1:
        left_out = f"And {len(bad) - MOST_ENDINGS} more." if len(bad) > MOST_ENDINGS else ""
        bad = [f"{len(bad)} of {len(folders)} runs didn't finish.", *bad[:MOST_ENDINGS], left_out]
    if bad:
        raise RunEnded("\n\n".join(filter(None, bad)))


async def submit_all(
    jobs: Sequence[tuple[dict, bool]], waits: bool, then: Callable[[int, submit.Submission], None]
) -> list[submit.Submission]:
    """submit() of each (job, restart), in a thread, and then(its number, what became of it).

    When one can't be submitted, those before it aren't started. A prompt that waits and ends meanwhile leaves no run
    behind that nobody waits for.
    """
    abandoned = threading.Event()
    submissions: list[submit.Submission] = []

    def work() -> list[submit.Submission]:
        try:
            for number, (made, restart) in enumerate(jobs):
                submissions.append(submit.submit(made, restart, {each.folder.name for each in submissions}))
                then(number, submissions[-1])
                if abandoned.is_set():
                    break
        except (ValueError, OSError):
            cancel_all([each.folder for each in submissions if each.action in ("started", "resumed")])
            raise
        if abandoned.is_set():
            cancel_all([each.folder for each in submissions])
        return submissions

    try:
        return await asyncio.to_thread(work)
    except asyncio.CancelledError:
        if waits:
            # The thread goes on with what it is at. Whichever of the two comes second sees the other.
            abandoned.set()
            cancel_all([each.folder for each in submissions])
        raise


async def _ended(folder: RunFolder, deadline: float, timeout: float, progress: _Progress, in_browser: bool) -> str:
    """Waits for a run's end; why it isn't finished, "" where it is."""
    from comfy.model_management import throw_exception_if_processing_interrupted

    while True:
        throw_exception_if_processing_interrupted()
        launch.reap()
        now = liveness.state_of(folder)
        if now not in liveness.ACTIVE:
            break
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"Run {folder.name} isn't finished after {timeout:g} s: it goes on in the background. "
                "Wait again with a longer timeout, or cancel it."
            )
        # ComfyUI's progress hook asks for interrupts too.
        progress.show(stored.status(folder))
        await asyncio.sleep(SECONDS)
    if now != "finished":
        progress.next_run()
        return ending(folder, now, in_browser)
    progress.show(stored.status(folder))
    progress.next_run()
    try:
        published_lora.require_finished(folder)
    except ValueError as error:
        return str(error)
    return ""


def ending(folder: RunFolder, now: str, in_browser: bool = False) -> str:
    """Why a run that isn't finished has ended: one sentence, then the worker's traceback or the log's last lines.

    In the browser both stand in the panel, folded.
    """
    if now == liveness.UNREADABLE:
        return f"Run {folder.name} can't be followed any more. {liveness.damage(folder)}"
    status = stored.status(folder)
    if now == "cancelled":
        kept = int(status.get("checkpoint") or 0)
        if not kept:
            return f"Run {folder.name} was cancelled before its first checkpoint: queue the same graph to start again."
        return (
            f"Run {folder.name} was cancelled, its checkpoint holds {kept} iterations: "
            "queue the same graph again to go on from there."
        )
    if now == "failed":
        sentence = f"Run {folder.name} failed: {status.get('message', '')}"
        return _with_log(sentence, folder, "" if in_browser else _traceback(folder))
    why = liveness.unsaid(folder)
    advice = "queue the same graph again to go on from the last checkpoint."
    rest = f": {why}" if why else f" (killed, or out of memory): {advice}"
    sentence = f"The worker of run {folder.name} is gone without a word{rest}"
    return _with_log(sentence, folder, "" if in_browser else _last_lines(folder))


def _with_log(sentence: str, folder: RunFolder, rest: str) -> str:
    return f"{sentence}\nIts log: {folder.log}\n\n{rest}".rstrip()


def _traceback(folder: RunFolder) -> str:
    newest = deque(events.of_types(folder.events, "failed"), maxlen=1)
    return newest[0].get("traceback", "") if newest else ""


def _last_lines(folder: RunFolder) -> str:
    lines = log_tail.read(folder.log, LOG_BYTES)["text"].splitlines()[-LOG_LINES:]
    return readable("\n".join(lines), keep_end=True)


def tell_browser(workflow_id: str, node_id: str | None, run_id: str) -> None:
    """Which run a node of a browser's graph is about; nobody is told for prompts of scripts, which have no graph."""
    from server import PromptServer

    server = getattr(PromptServer, "instance", None)
    client = getattr(server, "client_id", None)
    if server and client and workflow_id and node_id:
        server.send_sync(NODE_EVENT, {"workflow_id": workflow_id, "node_id": node_id, "run_id": run_id}, client)


class _Progress:
    """ComfyUI's progress bar of the node; it says nothing where nothing has changed for less than TICK_SECONDS."""

    def __init__(self, node_id: str | None, runs: int) -> None:
        import comfy.utils

        self._bar = comfy.utils.ProgressBar(1, node_id)
        self._runs, self._ended = runs, 0
        self._shown: tuple[int, int] | None = None
        self._at = 0.0

    def next_run(self) -> None:
        self._ended += 1

    def show(self, status: dict) -> None:
        """status: of the run at work. Runs that wait for it are taken to be as long."""
        done, all_of_it = int(status.get("iteration") or 0), max(1, int(status.get("iterations") or 1))
        shown = self._ended * all_of_it + min(done, all_of_it), self._runs * all_of_it
        if shown == self._shown and time.monotonic() - self._at < TICK_SECONDS:
            return
        self._bar.update_absolute(*shown)
        self._shown, self._at = shown, time.monotonic()


def line(status: dict) -> str:
    """A run's status in a line, e.g. "iteration 12 of 300, reward 0.41, about 1 h 05 min left"."""
    if not status.get("iteration") or status.get("stage") not in ("train", "", None):
        words = status.get("message") or status.get("stage") or status["state"]
        counted = status.get("stage") and status.get("phase") == status["stage"]
        return f"{words} {status.get('phase_done')} of {status.get('phase_total')} done." if counted else words
    minutes = max(1, round((status.get("eta_seconds") or 0.0) / 60))
    left = f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"
    known = status["iteration"] >= PACE_ITERATIONS and status["state"] == "running"
    parts = [
        f"iteration {status['iteration']} of {status.get('iterations', '?')}",
        events.scores(status.get("reward") or {}),
        f"about {left} left" if known else "",
    ]
    return ", ".join(part for part in parts if part)
